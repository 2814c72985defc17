"""Clip the range of each block where that lowers the squared error of its values.

Low-bit codes waste their few steps on outliers: a range a little below the extent rounds the many values finer and
clips the few. The best of a grid of ranges is kept per block (Nagel et al. 2021, "A White Paper on Neural Network
Quantization", arXiv 2106.08295, section 3.1: MSE, searched over a grid).
"""

from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms.clipped_scales import CANDIDATES, SMALLEST, clipped_scales
from tfq_fine.algorithms.problem import WeightProblem
from tfq_fine.numerics import affine


def mse_clip(problem: WeightProblem) -> WeightCodes:
    """Return the codes of least squared error in every block, of all candidates; never worse than rounding to nearest.

    Options:
        smallest: the smallest range, as a share of the extent of the block.
        candidates: how many ranges are tried between that and the whole extent.
    """
    return clipped(problem, problem.options["smallest"], int(problem.options["candidates"]))


def clipped(problem: WeightProblem, smallest: float = SMALLEST, candidates: int = CANDIDATES) -> WeightCodes:
    """Return the codes of `mse_clip` for these options, or for its defaults."""
    scales = clipped_scales(problem, problem.weight, None, smallest, candidates)
    return affine.encode(problem.weight, problem.block, *scales, problem.codes)
