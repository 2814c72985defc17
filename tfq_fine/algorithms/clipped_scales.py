"""Scales of blocks of values: ranges are clipped where that lowers the weighted squared error."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from tfq_converters.graph import Float32Array, Float64Array, Int64Array
from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms.problem import WeightProblem
from tfq_fine.numerics import affine

SMALLEST, CANDIDATES = 0.3, 36  # shares of the extent: 1.00, 0.98, ... 0.30

Scales = tuple[Float32Array, Int64Array]  # scales and zero points, one entry for each block


def clipped_scales(
    problem: WeightProblem,
    values: Float32Array,
    importance: Float32Array | None = None,
    smallest: float = SMALLEST,
    candidates: int = CANDIDATES,
) -> Scales:
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
    low, high = affine.block_extent(values, problem.block)

    def tried() -> Iterator[Scales]:
        for share in np.linspace(1.0, smallest, candidates):
            scale, zero = problem.floored(*affine.weight_scale(low * share, high * share, problem.codes))
            yield scale, zero
            if problem.codes.signed_scales:
                yield -scale, zero

    return best_scales(problem, values, tried(), lambda codes: affine.squared_error(values, codes, importance))


def best_scales(
    problem: WeightProblem,
    values: Float32Array,
    candidates: Iterable[Scales],
    error: Callable[[WeightCodes], Float64Array],
) -> Scales:
    """Return, for each block, the scale and zero point of least error; the first of equal ones, and where all are NaN.

    Args:
        problem: the blocks and the format of codes.
        values: float32 of the weight's shape.
        candidates: scales, float32, and zero points, int64, one entry for each block; at least one pair.
        error: codes of `values` -> the error of each block, float64.
    """
    best: Scales | None = None
    for scale, zero in candidates:
        block_error = error(affine.encode(values, problem.block, scale, zero, problem.codes))
        if best is None:
            best, least = (scale, zero), np.full(block_error.shape, np.inf)
        better = block_error < least
        least = np.where(better, block_error, least)
        best = np.where(better, scale, best[0]), np.where(better, zero, best[1])
    assert best is not None, "there is a candidate"
    return best
