"""The algorithm of a spec that names none: what quality asks for, and without data the best that needs none."""

from dataclasses import replace

from tfq_fine.algorithms.mse_clip import clipped
from tfq_fine.algorithms.problem import Solution, WeightProblem
from tfq_fine.algorithms.round_to_nearest import round_to_nearest
from tfq_fine.request import WeightSpec


def auto(problem: WeightProblem) -> Solution:
    """Return the codes of `round_to_nearest` at 8 bits, where clipping gains nothing, and of `mse_clip` below."""
    if problem.codes.bits == 8:
        return Solution(round_to_nearest(problem), "round_to_nearest")
    return Solution(clipped(problem), "mse_clip")


def with_algorithm_named(spec: WeightSpec, keeps_clusters: bool = False) -> WeightSpec:
    """Return the spec with the name of the algorithm that "auto" is where nothing is known of the inputs.

    Args:
        spec: the spec of a weight.
        keeps_clusters: equal values must get equal codes, which no clipped range promises.
    """
    if spec.algorithm != "auto":
        return spec
    return replace(spec, algorithm="round_to_nearest" if spec.bits == 8 or keeps_clusters else "mse_clip")
