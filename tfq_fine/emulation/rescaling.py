"""Rescaling of sums of products of codes to the output's scale: (sum, ratio of scales) -> whole number.

XNNPACK multiplies in float32 and rounds to even. The kernels of TFLite, which run what it does not take
(`tfq_converters.kernels.delegation`), multiply with a whole number of 31 bits and shift, and round both times: a half
of the shift up in matrix products (CONV_2D, FULLY_CONNECTED) and where a depthwise convolution takes eight channels at
once, away from 0 elsewhere. Of the int16 kernels FULLY_CONNECTED with a bias multiplies in float64 and rounds halves
away from 0, the others have factors of 15 bits.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from tfq_converters.graph import Float32Array, Int64Array, Op, Tensor
from tfq_fine.emulation.fixed_point import short, twice

Rounding = Literal["float", "up", "away", "eights", "double", "short"]
AT_ONCE = 8  # channels
MOST = 2**32 - 1  # largest sum, for a product of 63 bits; the scale of no output reaches that far


def rounding(op: Op, tensors: Mapping[int, Tensor], delegated: bool) -> Rounding:
    """Return how the kernel of a linear operator rounds.

    Args:
        op: the operator.
        tensors: slot -> tensor of the inputs, and -1 -> of the output.
        delegated: whether XNNPACK takes it.
    """
    if delegated:
        return "float"
    if tensors[-1].dtype == "int16" and op.code != "FULLY_CONNECTED":
        return "short"
    if op.code == "DEPTHWISE_CONV_2D":
        return "eights"
    if op.code == "FULLY_CONNECTED":
        return "double" if tensors[-1].dtype == "int16" and 2 in tensors else "up"
    grouped = op.code == "CONV_2D" and tensors[0].shape[-1] != tensors[1].shape[-1]
    return "away" if grouped or op.code == "TRANSPOSE_CONV" else "up"


def rescaled(tf: Any, total: Any, scales: tuple[np.float32, Float32Array, np.float32], how: Rounding) -> Any:
    """Return the nearest whole numbers of total * input scale * weight scale / output scale, in float64.

    Args:
        tf: TensorFlow.
        total: exact sums [..., channels], in a float type.
        scales: the scales of the input, of the weight [channels] or [1], and of the output, float32.
        how: what the kernel does.
    """
    data, weight, output = scales
    if how == "float":
        return tf.cast(tf.round(tf.cast(total, tf.float32) * ((data * weight) / output)), tf.float64)
    ratio = np.float64(data) * weight.astype(np.float64) / np.float64(output)
    if how == "double":
        product = tf.cast(total, tf.float64) * ratio
        return tf.sign(product) * tf.floor(tf.abs(product) + 0.5)
    whole = tf.cast(tf.clip_by_value(tf.cast(total, tf.float64), -MOST, MOST), tf.int64)
    rounded = short(tf, whole, ratio) if how == "short" else twice(tf, whole, ratio, _away(how, total.shape[-1]))
    return tf.cast(rounded, tf.float64)


def _away(how: Rounding, channels: int) -> Int64Array:
    """Return which channels round halves away from 0, as 0 and 1."""
    if how == "eights":
        return (np.arange(channels) >= channels // AT_ONCE * AT_ONCE).astype(np.int64)
    return np.full(1, how == "away", np.int64)
