"""Round to nearest over the full range of each block."""

from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms.problem import WeightProblem
from tfq_fine.numerics import affine


def round_to_nearest(problem: WeightProblem) -> WeightCodes:
    """Take scales from the extent of each block and round; |error| <= scale / 2 for every value."""
    return affine.encode_weight(problem.weight, problem.block, problem.codes)
