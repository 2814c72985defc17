"""A float graph together with the numbers chosen for it: what the emitted file must compute.

Nothing here knows how the numbers are stored; `realize` turns a `QuantizedGraph` into a graph that the kernels run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tfq_converters.brief import brief
from tfq_converters.graph import Float32Array, FloatArray, Graph, Int64Array, IntArray

OpKey = tuple[int, int]  # (subgraph index, op index)
TensorKey = tuple[int, int]  # (subgraph index, tensor index)
Mode = Literal["float", "float16", "weight_only", "dynamic", "integer"]
Form = Literal["native", "pointwise", "blockwise", "split", "dequantize", "lookup"]  # see `kernels.realizations`


@dataclass(frozen=True)
class WeightCodes:
    """A quantized constant: value = scale * (codes - zero_point), each scale shared by one block of values.

    The last block along an axis is shorter where `block` does not divide it.
    """

    __repr__ = brief

    codes: IntArray  # integers, shape of the constant
    scale: FloatArray  # float32 (float64 for biases), ceil(shape of the constant / block), same rank
    zero_point: Int64Array  # int64, shape of `scale`
    bits: int  # bits of the type that stores them
    block: tuple[int, ...]  # shape of the block of values that share a scale

    def dequantize(self) -> Float32Array:
        """Return the real values, float32, of the shape of `codes`."""
        scale, zero_point = self.scale.astype(np.float32), self.zero_point.astype(np.float32)
        for axis, (size, blocks) in enumerate(zip(self.block, self.scale.shape, strict=True)):
            if size > 1 and blocks > 1:
                part = (slice(None),) * axis + (slice(self.codes.shape[axis]),)
                scale, zero_point = np.repeat(scale, size, axis)[part], np.repeat(zero_point, size, axis)[part]
        values: FloatArray = self.codes.astype(np.float32 if self.bits <= 16 else np.float64)
        if self.zero_point.any():
            np.subtract(values, zero_point, out=values)
        np.multiply(values, scale if self.bits <= 16 else self.scale, out=values)
        return values.astype(np.float32, copy=False)

    def scales_along(self, axis: int) -> FloatArray:
        """Return the scale at every index of `axis`, the only one along which scales differ; [1] where none do."""
        scales = self.scale.reshape(-1)
        return scales if scales.size == 1 else np.repeat(scales, self.block[axis])[: self.codes.shape[axis]]

    @property
    def nbytes(self) -> int:
        """Bytes of the packed codes and of the scales as the file stores them."""
        return -(-self.codes.size * self.bits // 8) + 4 * self.scale.size


@dataclass(frozen=True)
class ActivationEncoding:
    """How an activation is held in integers: value = scale * (code - zero_point)."""

    dtype: Literal["int8", "int16", "uint8"]
    scale: float
    zero_point: int

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and the largest value that it holds."""
        codes = np.iinfo(self.dtype)
        return self.scale * (codes.min - self.zero_point), self.scale * (codes.max - self.zero_point)

    def widened(self) -> "ActivationEncoding":
        """Return the int16 encoding that holds every value of this one, 256 times finer."""
        limits = np.iinfo(self.dtype)
        farthest = max(limits.max - self.zero_point, self.zero_point - limits.min)
        return self if self.dtype == "int16" else ActivationEncoding("int16", self.scale * farthest / 32767, 0)

    def encode(self, values: FloatArray) -> IntArray:
        """Return the nearest codes of `values`, saturating, of their shape."""
        limits = np.iinfo(self.dtype)
        codes = np.rint(values / np.float64(self.scale)) + self.zero_point
        return np.asarray(np.clip(codes, limits.min, limits.max)).astype(self.dtype)  # an array at rank 0 too

    def decode(self, codes: IntArray) -> Float32Array:
        """Return the real values of `codes`, float32 of their shape."""
        values = np.asarray(codes.astype(np.float32))  # an array at rank 0 too
        if self.zero_point:
            values -= np.float32(self.zero_point)
        values *= np.float32(self.scale)
        return values


@dataclass(frozen=True)
class OpEncoding:
    """The decision for one operator.

    `inputs` and `outputs` map slots to the integer encodings that an "integer" operator reads and writes; a slot that
    is missing stays unchanged (shapes, indices, float). `weights` maps slots to quantized constants, to float16
    arrays in mode "float16", or to float32 arrays that replace a constant (a corrected bias). `form` says how they are
    held and computed in the file.
    """

    __repr__ = brief

    mode: Mode
    weights: Mapping[int, WeightCodes | FloatArray] = field(default_factory=dict)
    inputs: Mapping[int, ActivationEncoding] = field(default_factory=dict)
    outputs: Mapping[int, ActivationEncoding] = field(default_factory=dict)
    form: Form = "native"
    partial: ActivationEncoding | None = None  # the encoding of partial sums, where an integer operator is split
    algorithm: str = ""  # how the codes of its weights were found, for reports

    def read(self, slot: int) -> ActivationEncoding | None:
        """Return the encoding in which the file's operators read an activation; an integer split computes on int16."""
        encoding = self.inputs.get(slot)
        return encoding if encoding is None or self.partial is None else encoding.widened()


@dataclass(frozen=True)
class QuantizedGraph:
    """The float graph, the encodings of its operators (an operator that is missing stays float), the file's borders."""

    __repr__ = brief

    graph: Graph
    ops: Mapping[OpKey, OpEncoding]
    borders: Mapping[TensorKey, ActivationEncoding] = field(default_factory=dict)  # inputs and outputs in integers


def simulated_weight(value: WeightCodes | FloatArray) -> Float32Array:
    """Return the float32 values that a stored constant stands for, of its shape."""
    return value.dequantize() if isinstance(value, WeightCodes) else value.astype(np.float32)
