"""The range with the least squared error of the values at the given bits.

Choukroun et al. 2019, arXiv 1902.06822, section 3.1; Nagel et al. 2021, arXiv 2106.08295, section 3.1.
"""

from collections.abc import Mapping

import numpy as np

from tfq_converters.graph import Float64Array, FloatArray
from tfq_fine.calibration.observers.tensor_statistics import TensorStatistics
from tfq_fine.calibration.statistics import Range
from tfq_fine.numerics import Histogram, affine

SHARES = 2.0 ** -np.arange(0.0, 8.0, 0.125)  # shares of each end of the range: down to 1/256, in steps of 8 %
SWEEPS = 2


def mse(tensor: TensorStatistics, bits: int, options: Mapping[str, float]) -> Range:
    """Return the least error over a grid of shares of the lower and of the upper end, one end searched after the other.

    Options:
        fence: see `TensorStatistics.within` (10).
    """
    tensor = tensor.within(options["fence"])
    histogram, best = tensor.counted, tensor.range
    for _ in range(SWEEPS):
        before = best
        for side in ("high", "low"):
            if (best.high if side == "high" else -best.low) > 0:
                best = _best(histogram, best, side, bits)
        if best == before:
            break
    return best


def _best(histogram: Histogram, start: Range, side: str, bits: int) -> Range:
    """Return the best of the ranges whose end at `side` is a share of that of `start`; of equals, the widest."""
    low, high = np.full(len(SHARES), start.low), np.full(len(SHARES), start.high)
    (high if side == "high" else low)[:] *= SHARES
    best = int(np.argmin(squared_error(histogram, low, high, bits)))
    return Range(float(low[best]), float(high[best]))


def squared_error(histogram: Histogram, low: FloatArray, high: FloatArray, bits: int) -> Float64Array:
    """Return the squared errors, summed over counted values, in the encodings of ranges [low, high], each [k]: [k]."""
    errors = affine.round_trip(histogram.values, low, high, bits)
    errors -= histogram.values
    with np.errstate(over="ignore"):  # infinite where a value such as a mask is the lowest float
        np.square(errors, out=errors)
    total: Float64Array = errors.astype(np.float64) @ histogram.counts.astype(np.float64)
    return total
