"""The algorithm of a spec that names none: what quality asks for, and without data the best that needs none."""

from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms.mse_clip import mse_clip
from tfq_fine.algorithms.problem import WeightProblem
from tfq_fine.algorithms.round_to_nearest import round_to_nearest


def auto(problem: WeightProblem) -> WeightCodes:
    """Return the codes of `round_to_nearest` at 8 bits, where clipping gains nothing, and of `mse_clip` below."""
    return round_to_nearest(problem) if problem.codes.bits == 8 else mse_clip(problem)
