"""Products of whole numbers with a ratio, as the kernels without floats compute them: a multiplier and a shift.

`gemmlowp` and `ruy` hold a ratio as a whole number of 31 bits and an exponent; all values are int64 here.
"""

from typing import Any

import numpy as np

from tfq_converters.kernels.arithmetic import MULTIPLIER_BITS, fixed_point

SHORT_BITS = 15


def once(tf: Any, whole: Any, ratio: Any) -> Any:
    """Return whole * ratio, rounding halves up."""
    multiplier, exponent = fixed_point(ratio)
    return shifted(tf, whole * multiplier, MULTIPLIER_BITS - exponent)


def short(tf: Any, whole: Any, ratio: Any) -> Any:
    """Return whole * ratio, the ratio in 15 bits, rounding halves up."""
    multiplier, exponent = fixed_point(ratio)
    fewer = np.where(multiplier < 0x7FFF0000, (multiplier + 2**15) >> 16, 0x7FFF)
    return shifted(tf, whole * fewer, SHORT_BITS - exponent)


def twice(tf: Any, whole: Any, ratio: Any, away: Any = 1) -> Any:
    """Return whole * ratio, rounded before the shift to the right and by it.

    Args:
        tf: TensorFlow.
        whole: whole numbers.
        ratio: positive.
        away: whether the shift rounds halves away from 0, else up; 0 and 1 along the last axis.
    """
    return twice_by(tf, whole, *fixed_point(ratio), away)


def twice_by(tf: Any, whole: Any, multiplier: Any, exponent: Any, away: Any = 1) -> Any:
    """Do `twice` by a ratio in its parts."""
    left, right = np.maximum(exponent, 0), np.maximum(-exponent, 0)
    first = shifted(tf, whole * ((1 << left) * multiplier), MULTIPLIER_BITS)
    return shifted(tf, first - tf.cast(first < 0, tf.int64) * (away * (right > 0)), right)


def shifted(tf: Any, whole: Any, bits: Any) -> Any:
    """Return whole / 2^bits, rounding halves up."""
    half = (np.int64(1) << np.asarray(bits, np.int64)) >> 1
    return tf.bitwise.right_shift(whole + half, np.asarray(bits, np.int64))
