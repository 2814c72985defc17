"""A kernel whose codes are fitted to its inputs: variables that hold what calibration found.

Fitted codes are not the nearest ones of the float values, so that a constant is added to these, after which they are.
The float values themselves stay unchanged: a second calibration starts from them again, and training moves them.
"""

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import tensorflow as tf

from tfq_converters.graph import Float32Array, Float64Array, Int64Array
from tfq_converters.quantized import WeightCodes
from tfq_fine.layers.kernel import QuantizedKernel
from tfq_fine.layers.layer_table import Kernel, from_op, holder_of


class FixedScale:
    """Two variables of a layer: scales and zero points that stay as calibration found them, whatever is trained."""

    def __init__(self, owner: Any, name: str, shape: tuple[int, ...]):
        self.scale = owner.add_weight(shape=shape, initializer="zeros", trainable=False, name=name)
        self.zero = owner.add_weight(shape=shape, initializer="zeros", trainable=False, name=f"{name}_zero")

    def set(self, scale: Any, zero: Any) -> None:
        """Take scales and zero points of the shape of the blocks."""
        self.scale.assign(scale)
        self.zero.assign(zero)

    def or_else(self, scale: Any, zero: Any) -> tuple[Any, Any]:
        """Return scales and zero points; those that are given, of the whole extent, before there was a calibration."""
        is_set = self.scale.value != 0
        return tf.where(is_set, self.scale.value, scale), tf.where(is_set, self.zero.value, zero)

    def numpy(self, scale: Float32Array, zero: Int64Array) -> tuple[Float32Array, Int64Array]:
        """Return what `or_else` does, as arrays."""
        is_set, zeros = np.asarray(self.scale) != 0, np.asarray(self.zero).astype(np.int64)
        return np.where(is_set, np.asarray(self.scale), scale), np.where(is_set, zeros, zero)


@dataclass(frozen=True)
class FittedKernel:
    """A kernel and its bias are computed with these variables added, which are 0 before calibration.

    Attributes:
        offset: a variable of the kernel's shape.
        bias: the bias that is added to the results of the kernel's operator; None where the layer has none.
        bias_offset: a variable of its shape.
        bias_name: where the layer keeps it: "bias", or "_query_dense.bias".
    """

    offset: Any
    bias: Any = None
    bias_offset: Any = None
    bias_name: str = ""

    def hold(self, q: QuantizedKernel, codes: WeightCodes, shift: Float64Array | None = None) -> None:
        """Let the kernel stand for codes that are not the nearest ones of its values.

        Args:
            q: the kernel that this belongs to.
            codes: of the form of its plan.
            shift: what is added to the bias, float64 [channels]; None for nothing.
        """
        values = from_op(codes.dequantize(), q.layout, tuple(q.variable.shape))
        self.offset.assign(values - np.asarray(q.variable))
        if self.bias is not None:
            self.bias_offset.assign(np.zeros(self.bias.shape) if shift is None else shift.reshape(self.bias.shape))
        if isinstance(q.factors, FixedScale):
            q.factors.set(codes.scale, codes.zero_point)
        else:
            q.factors.set(codes.scale)


def fitted_kernel(owner: Any, index: int, kernel: Kernel, variable: Any, channels: int) -> FittedKernel:
    """Return the variables of a wrapper for one of its kernels.

    Args:
        owner: the wrapper.
        index: the number of the kernel among those of the layer.
        kernel: the facts of the kernel.
        variable: the kernel.
        channels: its output channels.
    """

    def zeros(like: Any, name: str) -> Any:
        return owner.add_weight(shape=tuple(like.shape), initializer="zeros", trainable=False, name=name)

    offset, name = zeros(variable, f"fitted_{index}"), bias_of_kernel(owner.layer, kernel.variable, channels)
    if not name:
        return FittedKernel(offset)
    bias = attrgetter(name)(owner.layer)
    return FittedKernel(offset, bias, zeros(bias, f"fitted_bias_{index}"), name)


def bias_of_kernel(layer: Any, variable: str, channels: int) -> str:
    """Return where a layer keeps the bias that it adds to the results of one of its kernels; "" where it has none."""
    holder, _, name = variable.rpartition(".")
    bias = getattr(holder_of(layer, variable), "bias", None) if name in ("kernel", "pointwise_kernel") else None
    if bias is None or int(np.prod(bias.shape)) != channels:
        return ""
    return f"{holder}.bias" if holder else "bias"
