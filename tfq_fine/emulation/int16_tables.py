"""int16 functions of one value as the kernels look them up: 513 anchors, straight lines between them.

`tfq_converters.kernels.arithmetic.tables` makes the tables.
"""

from typing import Any

import numpy as np

from tfq_converters.graph import Int64Array
from tfq_converters.kernels.arithmetic import LEAST, MOST, SIGMOID, STEPS, anchors
from tfq_fine.emulation.fixed_point import shifted, twice


def looked_up(tf: Any, table: Int64Array, codes: Any) -> Any:
    """Return the table, int64 [513], at codes of 16 bits, int64 of any shape."""
    index = tf.bitwise.right_shift(codes, np.int64(7)) + STEPS // 2
    base, after = tf.gather(table, index), tf.gather(table, index + 1)
    return base + shifted(tf, (after - base) * tf.bitwise.bitwise_and(codes, np.int64(0x7F)), 7)


def sigmoid_input(tf: Any, codes: Any, scale: np.float32) -> Any:
    """Return codes on a scale of 1 / (3 * 4096)."""
    multiplier, shift = float(scale) * 4096.0 * 3.0, 0
    while multiplier <= 32767.0 / 2.0 and shift <= 30:
        multiplier, shift = multiplier * 2.0, shift + 1
    return shifted(tf, codes * int(multiplier), shift)


def logistic(tf: Any, codes: Any) -> Any:
    """Return the logistic function of what `sigmoid_input` made, on a scale of 2^-15."""
    result = _between(tf, tf.abs(codes), 9)
    both = tf.where(codes >= 0, result + (1 << 9), (1 << 25) - result + (1 << 9) - 1)
    return tf.bitwise.right_shift(both, np.int64(10))


def tanh(tf: Any, codes: Any) -> Any:
    """Return the hyperbolic tangent of what `sigmoid_input` made, on a scale of 2^-15."""
    result = _between(tf, tf.abs(codes), 8)
    both = tf.where(codes >= 0, result - (1 << 23) + (1 << 7), -result + (1 << 23) + (1 << 7) - 1)
    return tf.bitwise.right_shift(both, np.int64(8))


def _between(tf: Any, magnitude: Any, bits: int) -> Any:
    """Return the logistic function, 16 + `bits` bits after the point, of magnitudes with `bits` bits after a step."""
    index = tf.bitwise.right_shift(magnitude, np.int64(bits))
    inside = tf.minimum(index, STEPS // 2 - 2)
    base, after = tf.gather(SIGMOID, inside), tf.gather(SIGMOID, inside + 1)
    line = base * (1 << bits) + tf.bitwise.bitwise_and(magnitude, np.int64((1 << bits) - 1)) * (after - base)
    full = (0x7FFF << 10) if bits == 9 else (0xFFFF << 8)
    return tf.where(index >= STEPS // 2 - 1, np.int64(full), line)


def softmax(tf: Any, codes: Any, scale: Any, beta: float) -> Any:
    """Return SOFTMAX along the last axis, on a scale of 2^-15."""
    below_max = codes - tf.reduce_max(codes, axis=-1, keepdims=True)
    ratio = np.float64(scale) * np.float64(beta) / (10.0 / 65535.0)
    diff = tf.clip_by_value(twice(tf, below_max, ratio) + MOST, LEAST, MOST)
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
