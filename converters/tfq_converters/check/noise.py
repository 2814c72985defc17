"""How far values are from what they should be, as signal to noise in dB: quick sums over large float32 arrays."""

from collections.abc import Iterable

import numpy as np

CHUNK = 2**13  # values that are summed at a time: too few for BLAS to start threads, and for float32 to lose digits


def sqnr(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return 10 log10(sum x^2 / sum (x - y)^2) in dB over pairs (x, y); inf without error, NaN for values not finite.

    >>> round(sqnr([(np.array([3.0, 4.0]), np.array([3.0, 4.5]))]), 9)
    20.0
    """
    signal = noise = 0.0
    for x, y in pairs:
        signal += _energy(x.reshape(-1))
        with np.errstate(invalid="ignore"):
            noise += _energy((x - y).reshape(-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float("inf") if noise == 0 else float(10 * np.log10(np.float64(signal) / noise))


def _energy(values: np.ndarray) -> float:
    """Sum of squares; in double precision where masks (the lowest float) overflow single precision."""
    energy = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, values.size, CHUNK):
            part = values[start : start + CHUNK]
            energy += float(np.dot(part, part))
        return energy if np.isfinite(energy) else float(np.square(values, dtype=np.float64).sum())
