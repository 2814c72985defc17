"""Scales of blocks of values: ranges are clipped where that lowers the weighted squared error."""

import numpy as np

from tfq_converters.graph import Float32Array, Int64Array
from tfq_fine.algorithms.problem import WeightProblem
from tfq_fine.numerics import affine

SMALLEST, CANDIDATES = 0.3, 36  # shares of the extent: 1.00, 0.98, ... 0.30


def clipped_scales(
    problem: WeightProblem,
    values: Float32Array,
    importance: Float32Array | None = None,
    smallest: float = SMALLEST,
    candidates: int = CANDIDATES,
) -> tuple[Float32Array, Int64Array]:
    """Return the scales and zero points of least error sum_i importance_i (stored_i - values_i)^2 of every block.

    Args:
        problem: the blocks, the format of codes and scales, and the smallest scales.
        values: float32 of the weight's shape.
        importance: float32, not negative, of that shape; None where all values count the same.
        smallest: the smallest range, as a share of the extent of the block.
        candidates: how many ranges are tried between that and the whole extent.

    Returns:
        float32 and int64, one entry for each block, of the rank of `values`.
    """
    block, form = problem.block, problem.codes
    low, high = affine.block_extent(values, block)
    best_scale, best_zero = problem.floored(*affine.weight_scale(low, high, form))
    least = np.full(low.shape, np.inf)
    for share in np.linspace(1.0, smallest, candidates):
        scale, zero = problem.floored(*affine.weight_scale(low * share, high * share, form))
        for signed in (scale, -scale) if form.signed_scales else (scale,):
            error = affine.squared_error(values, affine.encode(values, block, signed, zero, form), importance)
            better = error < least
            least = np.where(better, error, least)
            best_scale, best_zero = np.where(better, signed, best_scale), np.where(better, zero, best_zero)
    return best_scale, best_zero
