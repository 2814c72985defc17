"""The one definition of SQNR: how far values are from what they should be, as signal to noise in dB.

Energies (sums of squares) become dB in `sqnr_db` alone, which also says what it is without error, without signal and
with values that are not finite. Energies are summed in two ways, on purpose: `sqnr` sums all tensors of a run check,
quickly, in float32; `tfq_fine.numerics.ErrorSums` sums outputs, and more than their energies, in float64.
"""

import math
from collections.abc import Iterable

import numpy as np

from tfq_converters.graph import Float64Array, FloatArray

CHUNK = 2**13  # values that are summed at a time: too few for BLAS to start threads, and for float32 to lose digits


def sqnr_db(signal: float, noise: float) -> float:
    """Return 10 log10(signal / noise) in dB, of two energies.

    +inf without noise (also without signal), -inf where there is noise and no signal or the noise is infinite, NaN
    where one of them is NaN. The ratio is never formed: it could leave the range of a double.

    >>> sqnr_db(25.0, 0.25), sqnr_db(0.0, 0.0), sqnr_db(0.0, 1.0), sqnr_db(1.0, math.nan)
    (20.0, inf, -inf, nan)
    """
    if math.isnan(noise) or math.isnan(signal):
        return math.nan
    if noise == 0:
        return math.inf
    if signal == 0 or math.isinf(noise):
        return -math.inf
    return 10 * (math.log10(signal) - math.log10(noise))


def nan_as_worst(db: float) -> float:
    """Return `db` for comparisons: NaN counts as worse than any number.

    >>> nan_as_worst(math.nan), nan_as_worst(20.0)
    (-inf, 20.0)
    """
    return -math.inf if math.isnan(db) else db


def sqnr(pairs: Iterable[tuple[FloatArray, FloatArray]]) -> float:
    """Return the SQNR in dB over all pairs (x, y) of a reference and an approximation, flattened.

    >>> sqnr([(np.array([3.0, 4.0]), np.array([3.0, 4.5]))])
    20.0
    """
    signal = noise = 0.0
    for x, y in pairs:
        energies = _energies(x.reshape(-1), y.reshape(-1))
        signal, noise = signal + energies[0], noise + energies[1]
    return sqnr_db(signal, noise)


def _energies(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Return (sum x², sum (x - y)²), in double precision where masks (the lowest float) overflow single precision."""
    signal = noise = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, x.size, CHUNK):
            part, other = x[start : start + CHUNK], y[start : start + CHUNK]
            error = part - other
            energies = float(np.dot(part, part)), float(np.dot(error, error))
            if not math.isfinite(sum(energies)):
                part, other = comparable(part, other)
                error = part - other
                energies = float(np.dot(part, part)), float(np.dot(error, error))
            signal, noise = signal + energies[0], noise + energies[1]
    return signal, noise


def comparable(reference: FloatArray, approximation: FloatArray) -> tuple[Float64Array, Float64Array]:
    """Return both, which are of one shape, in float64.

    Where both hold the same infinity, they become 0: that value is exact and has no signal.
    """
    x, y = reference.astype(np.float64), approximation.astype(np.float64)
    same = np.isinf(x) & (x == y)
    return (np.where(same, 0.0, x), np.where(same, 0.0, y)) if same.any() else (x, y)
