"""Weight algorithms: each is one function of a `WeightProblem`, and one row here.

To add one, write its module and its row.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

import numpy as np

from tfq_converters.errors import TfqError, raise_all
from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms.auto import auto
from tfq_fine.algorithms.balanced import balanced, best
from tfq_fine.algorithms.clipped_scales import CANDIDATES, SMALLEST
from tfq_fine.algorithms.clusters import clusters
from tfq_fine.algorithms.comq import comq
from tfq_fine.algorithms.gptq import gptq, qronos
from tfq_fine.algorithms.hqq import hqq
from tfq_fine.algorithms.mse_clip import mse_clip, mse_clip_weighted
from tfq_fine.algorithms.octav import octav
from tfq_fine.algorithms.problem import (
    Algorithm,
    Option,
    Solution,
    Statistic,
    WeightProblem,
)
from tfq_fine.algorithms.round_to_nearest import round_to_nearest
from tfq_fine.algorithms.squant import squant
from tfq_fine.request import OwnName, WeightSpec

INPUTS: frozenset[Statistic] = frozenset({"inputs"})
ORDER = {"damping": Option(0.02, 0.0, 1.0), "act_order": Option(0, 0, 1, whole=True)}
FLOAT_INPUTS = {"float_inputs": Option(0, 0, 1, whole=True)}
SWEEPS = Option(3, 1, 100, whole=True)
FEW_SWEEPS, MANY_SWEEPS = replace(SWEEPS, default=2), replace(SWEEPS, default=8)
LEARNING = {
    "steps": Option(500, 1, 100_000, whole=True),  # gradient steps
    "ranges": Option(1, 0, 1, whole=True),  # whether scales of activations are learned along
}
DESCENT = ORDER | {"sweeps": SWEEPS}
CLIP = {"smallest": Option(SMALLEST, 0.01, 1.0), "candidates": Option(CANDIDATES, 1, 10_000, whole=True)}


def _fitting(
    solve: Callable[[WeightProblem], WeightCodes | Solution],
    options: Mapping[str, Option],
    learns: Literal["", "operator", "block"] = "",
) -> Algorithm:
    """Return the row of an algorithm that fits weights to the moments of their inputs."""
    return Algorithm(solve, INPUTS, options, scope="operator", learns=learns, by_moments=True, stand_in="mse_clip")


ALGORITHMS: dict[str, Algorithm] = {
    "auto": Algorithm(auto),
    "balanced": _fitting(balanced, {"sweeps": FEW_SWEEPS}),
    "best": _fitting(best, {"sweeps": MANY_SWEEPS} | LEARNING, learns="block"),
    "round_to_nearest": Algorithm(round_to_nearest),
    "mse_clip": Algorithm(mse_clip, options=CLIP),
    "mse_clip_weighted": Algorithm(mse_clip_weighted, frozenset({"second_moment"}), CLIP, stand_in="mse_clip"),
    "gptq": _fitting(gptq, ORDER | FLOAT_INPUTS),
    "qronos": _fitting(qronos, ORDER),
    "comq": _fitting(comq, DESCENT),
    "adaround": _fitting(balanced, {"sweeps": FEW_SWEEPS} | LEARNING, learns="operator"),
    "reconstruct": _fitting(balanced, {"sweeps": FEW_SWEEPS} | LEARNING, learns="block"),
    "octav": Algorithm(octav),
    "squant": Algorithm(squant, options=CLIP),
    "hqq": Algorithm(hqq, options={"norm": Option(0.7, 0.1, 2.0)}),
    "clusters": Algorithm(clusters, keeps_equal=True),
}


def algorithm_named(algorithm: str) -> Algorithm | None:
    """Return the row of a name, or that of an object of the user; None where nothing is called so."""
    if isinstance(algorithm, OwnName):
        return algorithm.given if isinstance(algorithm.given, Algorithm) else Algorithm(algorithm.given)
    return ALGORITHMS.get(algorithm)


def algorithm_of(spec: WeightSpec) -> Algorithm:
    """Return the row of a spec's algorithm, which was checked (`algorithm_problems`)."""
    row = algorithm_named(spec.algorithm)
    assert row is not None, "specs are checked before any work"
    return row


def algorithm_problems(spec: WeightSpec) -> list[str]:
    """List what is wrong with the algorithm of a spec and its options."""
    row = algorithm_named(spec.algorithm)
    if row is None:
        return [f"unknown algorithm {spec.algorithm!r}; known: {', '.join(ALGORITHMS)}"]
    names = ", ".join(row.options) or "none"
    problems = [
        row.options[name].problem(name, value) if name in row.options else f"no option {name!r}; it has {names}"
        for name, value in spec.options
    ]
    return [f"algorithm {spec.algorithm!r} has {problem}" for problem in problems if problem]


def with_stand_in(spec: WeightSpec) -> WeightSpec:
    """Return the spec with the stand-in of its algorithm, which has no options."""
    return replace(spec, algorithm=algorithm_of(spec).stand_in, options=())


def solve(spec: WeightSpec, problem: WeightProblem) -> WeightCodes:
    """Return the codes of `solution`."""
    return solution(spec, problem).codes


def solution(spec: WeightSpec, problem: WeightProblem) -> Solution:
    """Choose the codes of a weight with the algorithm of `spec`, whose options take the place of the problem's.

    Raises:
        TfqError: an unknown algorithm, a bad option, or the problem lacks what the algorithm reads.
    """
    problems = algorithm_problems(spec)
    if problems:
        raise TfqError("; ".join(problems))
    row = algorithm_of(spec)
    missing = problem.inputs.missing(row.reads)
    if missing:
        raise TfqError(
            f"algorithm {spec.algorithm!r} reads {', '.join(missing)} of the inputs, and there are none: give "
            "representative data, or statistics that `calibrate` gathered with this recipe"
        )
    solved = row.solve(replace(problem, options=row.with_defaults(dict(spec.options))))
    named = solved if isinstance(solved, Solution) else Solution(solved, str(spec.algorithm))
    if isinstance(spec.algorithm, OwnName):
        raise_all(f"algorithm {str(spec.algorithm)!r} {text}" for text in _unfit(named.codes, problem))
    return named


def _unfit(codes: object, problem: WeightProblem) -> list[str]:
    """Return why the file cannot hold what an algorithm of the user returned."""
    if not isinstance(codes, WeightCodes):
        return [f"returned a {type(codes).__name__}; return WeightCodes or a Solution"]
    form = problem.codes
    shapes = {"codes": (codes.codes.shape, problem.weight.shape), "scale": (codes.scale.shape, problem.grid)}
    texts = [
        f"returned {name} of shape {shape}; expected {expected}"
        for name, (shape, expected) in shapes.items()
        if shape != expected
    ]
    if codes.block != problem.block:
        texts.append(f"returned blocks of shape {codes.block}; expected {problem.block}")
    if codes.codes.size and not form.lowest <= codes.codes.min() <= codes.codes.max() <= form.highest:
        texts.append(
            f"returned codes from {codes.codes.min()} to {codes.codes.max()}; expected {form.lowest} to {form.highest}"
        )
    if not np.isfinite(codes.scale).all() or (not (codes.scale > 0).all() and not form.signed_scales):
        texts.append("returned scales that are not above 0, or not finite")
    return texts
