"""Products of whole numbers with a ratio, as the kernels without floats compute them: a multiplier and a shift.

`gemmlowp` and `ruy` hold a ratio as a whole number of 31 bits and an exponent; all values are int64 here.
"""

from typing import Any

import numpy as np

from tfq_converters.graph import Int64Array

MULTIPLIER_BITS = 31


def fixed_point(ratio: Any) -> tuple[Int64Array, Int64Array]:
    """Return (31-bit whole number m, exponent e) of positive ratios: ratio = m * 2^(e - 31), m rounded.

    >>> fixed_point(np.array([0.375]))
    (array([1610612736]), array([-1]))
    """
    fraction, exponent = np.frexp(np.asarray(ratio, np.float64))
    multiplier = np.floor(np.ldexp(fraction, MULTIPLIER_BITS) + 0.5).astype(np.int64)
    full = multiplier == 2**MULTIPLIER_BITS
    return np.where(full, multiplier >> 1, multiplier), exponent.astype(np.int64) + full


def twice(whole: Int64Array, ratio: Any) -> Int64Array:
    """Return whole * ratio, rounded twice: halves up before the right shift, halves away from 0 by it.

    Whole numbers are int64 of any shape, before and after.
    """
    multiplier, exponent = fixed_point(ratio)
    left, right = np.maximum(exponent, 0), np.maximum(-exponent, 0)
    first = shifted(whole * ((np.int64(1) << left) * multiplier), MULTIPLIER_BITS)
    return shifted(first - (first < 0) * (right > 0), right)


def shifted(whole: Int64Array, bits: Any) -> Int64Array:
    """Return whole / 2^bits, int64 of any shape, rounding halves up."""
    half = (np.int64(1) << np.asarray(bits, np.int64)) >> 1
    return np.asarray((whole + half) >> np.asarray(bits, np.int64))
