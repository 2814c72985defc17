"""int16 functions of one value as the kernels look them up: 513 anchors, straight lines between them.

`LUTPopulate` and `LUTLookup` of TFLite for RSQRT, LOG, EXP, GELU and the exponentials of SOFTMAX; an older table of the
logistic function, of 256 steps, for LOGISTIC and TANH.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tfq_fine.layers.twin.fixed_point import shifted, twice

STEPS = 512
LEAST, MOST = -(2**15), 2**15 - 1
# Steps at which the kernel's table of the logistic function is one above the nearest code (measured).
ABOVE = (
    *(4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40, 41, 43, 44, 45, 46),
    *(49, 50, 54, 62, 63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135, 255),
)
SIGMOID = np.rint(2**16 / (1 + np.exp(-np.arange(256) / 24))).astype(np.int64) + np.isin(np.arange(256), ABOVE)


def anchors(
    function: Callable[[Any], Any], scale: Any, zero: int, output_scale: Any, kind: type[np.floating[Any]] = np.float32
) -> np.ndarray:
    """The table of a function of real values [513], each anchor moved by half the error in the middle behind it."""
    first, last = (kind(scale) * kind(code - zero) for code in (LEAST, MOST))
    step = (last - first) / kind(STEPS)
    inverse = kind(2**16) / (kind(output_scale) * kind(MOST) - kind(output_scale) * kind(LEAST))
    at = first + np.arange(STEPS).astype(kind) * step
    here, middle = function(at), function(at + step / kind(2))
    behind = function(first + np.arange(1, STEPS + 1).astype(kind) * step)
    sample = _nearest(here * inverse)
    off = _nearest((behind * inverse + sample) / kind(2)) - _nearest(middle * inverse)
    found = np.append(sample - _nearest(off / kind(2)), _nearest(function(last) * inverse))
    return np.clip(found, LEAST, MOST).astype(np.int64)


def _nearest(values: Any) -> Any:
    """Halves away from 0, as C rounds."""
    return np.trunc(values + np.copysign(np.asarray(values).dtype.type(0.5), values))


def looked_up(tf: Any, table: np.ndarray, codes: Any) -> Any:
    """The table at codes of 16 bits, int64."""
    index = tf.bitwise.right_shift(codes, np.int64(7)) + STEPS // 2
    base, after = tf.gather(table, index), tf.gather(table, index + 1)
    return base + shifted(tf, (after - base) * tf.bitwise.bitwise_and(codes, np.int64(0x7F)), 7)


def sigmoid_input(tf: Any, codes: Any, scale: np.float32) -> Any:
    """Codes on a scale of 1 / (3 * 4096)."""
    multiplier, shift = float(scale) * 4096.0 * 3.0, 0
    while multiplier <= 32767.0 / 2.0 and shift <= 30:
        multiplier, shift = multiplier * 2.0, shift + 1
    return shifted(tf, codes * int(multiplier), shift)


def logistic(tf: Any, codes: Any) -> Any:
    """Of what `sigmoid_input` made: the logistic function on a scale of 2^-15."""
    result = _between(tf, tf.abs(codes), 9)
    both = tf.where(codes >= 0, result + (1 << 9), (1 << 25) - result + (1 << 9) - 1)
    return tf.bitwise.right_shift(both, np.int64(10))


def tanh(tf: Any, codes: Any) -> Any:
    """Of what `sigmoid_input` made: the hyperbolic tangent on a scale of 2^-15."""
    result = _between(tf, tf.abs(codes), 8)
    both = tf.where(codes >= 0, result - (1 << 23) + (1 << 7), -result + (1 << 23) + (1 << 7) - 1)
    return tf.bitwise.right_shift(both, np.int64(8))


def _between(tf: Any, magnitude: Any, bits: int) -> Any:
    """The logistic function, 16 + `bits` bits behind the point, of magnitudes with `bits` bits behind a step."""
    index = tf.bitwise.right_shift(magnitude, np.int64(bits))
    inside = tf.minimum(index, STEPS // 2 - 2)
    base, after = tf.gather(SIGMOID, inside), tf.gather(SIGMOID, inside + 1)
    line = base * (1 << bits) + tf.bitwise.bitwise_and(magnitude, np.int64((1 << bits) - 1)) * (after - base)
    full = (0x7FFF << 10) if bits == 9 else (0xFFFF << 8)
    return tf.where(index >= STEPS // 2 - 1, np.int64(full), line)


def softmax(tf: Any, codes: Any, scale: Any, beta: float) -> Any:
    """Along the last axis, on a scale of 2^-15."""
    behind = codes - tf.reduce_max(codes, axis=-1, keepdims=True)
    ratio = np.float64(scale) * np.float64(beta) / (10.0 / 65535.0)
    diff = tf.clip_by_value(twice(tf, behind, ratio) + MOST, LEAST, MOST)
    exponentials = looked_up(tf, anchors(np.exp, 10.0 / 65535.0, MOST, 2.0 / 65535.0, np.float64), diff)
    total = tf.reduce_sum(exponentials, axis=-1, keepdims=True)
    bits = tf.cast(
        tf.floor(tf.math.log(tf.cast(total, tf.float64)) / np.log(2.0) + 1e-12), tf.int64
    )  # whole: no 2^n - 1
    head = 31 - bits  # leading zeros of 32 bits
    one_to_two = shifted(tf, tf.bitwise.left_shift(total, head - 1), 14)
    table = anchors(lambda x: 1.0 / (1.0 + x), 1.0 / 65535.0, LEAST, 2.0 / 65535.0, np.float64)
    reciprocal = looked_up(tf, table, tf.clip_by_value(one_to_two - (2**15 + 2**16), LEAST, MOST))
    right = 31 - head
    half = tf.bitwise.left_shift(tf.ones_like(right), right - 1)
    return tf.clip_by_value(tf.bitwise.right_shift(exponentials * reciprocal + half, right), 0, MOST)
