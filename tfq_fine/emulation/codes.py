"""Quantized tensors as codes in float32, which holds every code of 8 and 16 bits exactly."""

from typing import Any

import numpy as np

from tfq_converters.graph import Float32Array, Op, Tensor
from tfq_converters.operators import fused_activation
from tfq_fine.emulation.operators import FUSED

ACTIVATIONS = frozenset({"int8", "uint8", "int16"})
WEIGHTS = frozenset({"int8", "int4", "int2"})


def is_quantized(tensor: Tensor) -> bool:
    """Return whether a tensor holds codes of real values."""
    quantization = tensor.quantization
    return tensor.dtype in ACTIVATIONS | WEIGHTS and quantization is not None and quantization.scale.size > 0


def affine_of(tensor: Tensor) -> tuple[np.float32, np.float32]:
    """Return (scale, zero point) of an activation."""
    return np.float32(tensor.affine.scale[0]), np.float32(tensor.affine.zero_point[0])


def decoded(codes: Any, tensor: Tensor) -> Any:
    """Return the real values of an activation's codes."""
    scale, zero = affine_of(tensor)
    return (codes - zero) * scale


def limits(tensor: Tensor) -> tuple[float, float]:
    """Return the least and the largest code of a tensor's type."""
    info = np.iinfo(tensor.dtype)
    return float(info.min), float(info.max)


def fused_limits(op: Op, tensor: Tensor) -> tuple[float, float]:
    """Return the least and the largest code that the operator's fused activation leaves of its output."""
    scale, zero = affine_of(tensor)
    below, above = (np.rint(limit / scale) + zero for limit in FUSED[fused_activation(op)])
    low, high = limits(tensor)
    return max(low, below), min(high, above)


def encoded(values: Any, tensor: Tensor) -> Any:
    """Return the nearest codes of real values, ties to even as the kernels have them, saturating.

    Of 16 bits, the last values of a tensor beyond a multiple of eight are divided by the scale, and may differ on ties.
    """
    import tensorflow as tf

    scale, zero = affine_of(tensor)
    return tf.clip_by_value(tf.round(values * (np.float32(1) / scale)) + zero, *limits(tensor))


def weight_values(tensor: Tensor) -> Float32Array:
    """Return the real values of a constant weight, float32 of its shape.

    There is one scale, one per index of an axis, or one per block.
    """
    data, quantization = tensor.constant, tensor.quantization
    if quantization is None or not quantization.scale.size:
        return np.asarray(data, np.float32)
    scale, zero = (np.asarray(part, np.float32) for part in (quantization.scale, quantization.zero_point))
    if quantization.block_size:
        scale = np.repeat(scale.reshape(data.shape[0], -1), quantization.block_size, axis=1)[:, : data.shape[1]]
        return data.astype(np.float32) * scale
    if scale.size > 1:
        scale, zero = (_along(part, quantization.axis, data.ndim) for part in (scale, zero))
    return (data.astype(np.float32) - zero) * scale


def _along(values: Float32Array, axis: int, rank: int) -> Float32Array:
    return np.broadcast_to(values, values.shape).reshape([-1 if other == axis else 1 for other in range(rank)])
