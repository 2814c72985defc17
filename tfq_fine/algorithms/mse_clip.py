"""Clip the range of each block where that lowers the squared error of its values.

Low-bit codes waste their few steps on outliers: a range a little below the extent rounds the many values finer and
clips the few. The best of a grid of ranges is kept per block (Nagel et al. 2021, "A White Paper on Neural Network
Quantization", arXiv 2106.08295, section 3.1: MSE, searched over a grid).
"""

import numpy as np

from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms.problem import WeightProblem
from tfq_fine.numerics import affine

SMALLEST, CANDIDATES = 0.3, 36  # of the extent: 1.00, 0.98, ... 0.30


def mse_clip(problem: WeightProblem) -> WeightCodes:
    """Return the codes of least squared error in every block, of all candidates; never worse than rounding to nearest.

    Options:
        smallest: the smallest range, as a share of the extent of the block.
        candidates: how many ranges are tried between that and the whole extent.
    """
    weight, block, form, options = problem.weight, problem.block, problem.codes, problem.options
    low, high = affine.block_extent(weight, block)
    best_scale, best_zero = affine.weight_scale(low, high, form)
    least = np.full(low.shape, np.inf)
    for share in np.linspace(1.0, options["smallest"], int(options["candidates"])):
        scale, zero = affine.weight_scale(low * share, high * share, form)
        squared = affine.squared_error(weight, affine.encode(weight, block, scale, zero, form))
        better = squared < least
        least = np.where(better, squared, least)
        best_scale, best_zero = np.where(better, scale, best_scale), np.where(better, zero, best_zero)
    return affine.encode(weight, block, best_scale, best_zero, form)
