"""int8 HARD_SWISH as its kernel computes it: 16 bits throughout, x on one scale times min(max(x + 3, 0), 6) / 6."""

from typing import Any

import numpy as np

from tfq_converters.kernels.arithmetic import fixed_point
from tfq_fine.emulation.fixed_point import shifted

UP = 7  # bits that codes are moved up by
LEAST, MOST = -(2**15), 2**15 - 1


def hard_swish(tf: Any, codes: Any, scale: np.float32, output_scale: np.float32) -> Any:
    """Return whole numbers on the scale of the output, for codes without their zero point."""
    high_scale = np.float32(scale / np.float32(2**UP))
    factor, exponent = _short(high_scale / np.float32(3.0 / 2**15))
    output_factor, output_exponent = _short(high_scale / output_scale)
    high = codes * 2**UP
    gate = _saturated(tf, high * 2 ** max(exponent - 1, 0))
    gate = _saturated(tf, shifted(tf, gate * factor, 15))
    if exponent > 0:
        gate = _saturated(tf, gate * 2)
    gate = tf.bitwise.right_shift(_divided(tf, gate, max(-exponent, 0)) + 2**15, np.int64(1))
    product = gate * _saturated(tf, shifted(tf, high * output_factor, 15))
    cut = tf.sign(product) * tf.bitwise.right_shift(tf.abs(product), np.int64(15))
    return _divided(tf, cut, -output_exponent)


def _short(ratio: np.float32) -> tuple[int, int]:
    """Return (whole number of 15 bits, exponent)."""
    multiplier, exponent = fixed_point(np.float64(ratio))
    return min((int(multiplier) + 2**15) >> 16, MOST), int(exponent)


def _saturated(tf: Any, values: Any) -> Any:
    return tf.clip_by_value(values, LEAST, MOST)


def _divided(tf: Any, values: Any, bits: int) -> Any:
    """Return values / 2^bits, rounding halves away from 0."""
    return shifted(tf, values - tf.cast(values < 0, tf.int64), bits) if bits > 0 else values
