"""The numbers of a cell: random data, random weights rounded as the cell says, a bias. The same on every machine."""

from dataclasses import dataclass

import numpy as np

from tfq_converters.graph import AnyArray, Float32Array, Float64Array, Quantization
from tfq_converters.kernels import Cell
from tfq_converters.operators import facts_of
from tfq_converters.probe.cases import BLOCK, Form
from tfq_converters.quantized import ActivationEncoding

LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"


@dataclass(frozen=True)
class Weight:
    """A constant as the file stores it, and what it stands for."""

    stored: AnyArray  # int8 codes, or float32 in mode "float"
    quantization: Quantization | None
    values: Float64Array  # float64, shape of `stored`

    @property
    def affine(self) -> Quantization:
        """The scales and zero points of codes.

        Raises:
            TypeError: the weight is stored in float.
        """
        if self.quantization is None:
            raise TypeError("the weight of a cell in mode 'float' has no scales")
        return self.quantization


@dataclass(frozen=True)
class Operands:
    """The operands of one cell."""

    data: AnyArray  # float32; int32 ids for a table
    weights: tuple[Weight, ...]
    bias: Float32Array | None  # float32 [channels]; [4, channels] for an LSTM
    encoding: ActivationEncoding | None  # the encoding of `data` in the integer modes

    @property
    def gate_biases(self) -> Float32Array:
        """The biases of an LSTM, float32 [4, channels].

        Raises:
            TypeError: the cell is of an operator without a bias.
        """
        if self.bias is None:
            raise TypeError("the operator of the cell has no bias")
        return self.bias

    @property
    def seen(self) -> AnyArray:
        """The real values that the operator reads: `data`, rounded where that is encoded; of the same shape."""
        if self.encoding is None:
            return self.data if self.data.dtype == np.int32 else self.data.astype(np.float64)
        return (self.encoding.encode(self.data).astype(np.float64) - self.encoding.zero_point) * self.encoding.scale


def operands(cell: Cell, form: Form) -> Operands:
    """Return the numbers of `cell`; channels, blocks and samples differ in size, to reveal misplaced scales."""
    rng = np.random.default_rng(7)
    data = _ids(rng, form) if facts_of(cell.op).table else _activation(rng, form)
    weights = tuple(rounded(_real_weight(rng, shape, form), cell, form) for shape in _weight_shapes(cell, form))
    channels = form.weight[form.channel]
    bias = rng.normal(size=(4, channels) if cell.op == LSTM else channels).astype(np.float32)
    integer = cell.mode.startswith("integer") and not facts_of(cell.op).table
    encoding = spanning(float(data.min()), float(data.max()), int(cell.mode[7:])) if integer else None
    return Operands(data, weights, bias if facts_of(cell.op).bias is not None or cell.op == LSTM else None, encoding)


def spanning(low: float, high: float, bits: int) -> ActivationEncoding:
    """Return the encoding whose codes span [low, high]; symmetric at 16 bits."""
    if bits == 16:
        return ActivationEncoding("int16", float(np.float32(max(-low, high) / 32767)), 0)
    scale = float(np.float32((max(high, 0) - min(low, 0)) / 255))
    return ActivationEncoding("int8", scale, int(np.clip(round(-128 - min(low, 0) / scale), -128, 127)))


def _ids(rng: np.random.Generator, form: Form) -> AnyArray:
    """Return every row at least once."""
    return rng.permutation(np.arange(form.data[0]) % form.weight[0]).astype(np.int32)


def _activation(rng: np.random.Generator, form: Form) -> Float32Array:
    """Return values that are not symmetric, and of another size in each sample."""
    factors = np.geomspace(1, 3, form.data[0]).reshape(-1, *[1] * (len(form.data) - 1))
    return (rng.uniform(-1, 2, form.data) * factors).astype(np.float32)


def _weight_shapes(cell: Cell, form: Form) -> list[tuple[int, ...]]:
    if cell.op != LSTM:
        return [form.weight]
    units = form.weight[0]
    return [form.weight] * 4 + [(units, units)] * 4


def _real_weight(rng: np.random.Generator, shape: tuple[int, ...], form: Form) -> Float64Array:
    values = rng.normal(size=shape)
    for axis in (form.channel, form.inputs):
        if axis is not None:
            factors = rng.permutation(np.geomspace(0.5, 2, shape[axis]))
            values *= factors.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    result: Float64Array = values / np.sqrt(values.size / shape[form.channel])
    return result


def rounded(values: Float64Array, cell: Cell, form: Form) -> Weight:
    """Quantize `values` at the bits and granularity of `cell`, in the narrow range, symmetric.

    They are float64, of the shape of the weight.
    """
    if cell.mode == "float":
        real = values.astype(np.float32)
        return Weight(real, None, real.astype(np.float64))
    split: list[int] = []  # each axis as (blocks, values that share a scale)
    for axis, size in enumerate(values.shape):
        split += _blocks(cell.granularity, size, axis, form)
    inner = tuple(range(1, len(split), 2))
    top = 2 ** (cell.bits - 1) - 1
    parts = values.reshape(split)
    scale = (np.abs(parts).max(inner, keepdims=True) / top).astype(np.float32)
    if cell.granularity == "blocks":
        scale = _bfloat16(scale)
    codes = np.clip(np.rint(parts / scale), -top, top).astype(np.int8)
    real = (codes * scale.astype(np.float64)).reshape(values.shape)
    return Weight(codes.reshape(values.shape), _stored_scales(scale, split, cell, form), real)


def _blocks(granularity: str, size: int, axis: int, form: Form) -> tuple[int, int]:
    if granularity == "per_tensor" or (granularity == "per_channel" and axis != form.channel):
        return 1, size
    if granularity == "blocks" and axis == form.inputs:
        return size // BLOCK, BLOCK
    return size, 1


def _stored_scales(scale: Float32Array, split: list[int], cell: Cell, form: Form) -> Quantization:
    if cell.granularity == "blocks":
        counts = split[::2]
        return Quantization(scale.reshape(counts), np.zeros(counts, np.int64), form.channel, BLOCK)
    flat = scale.reshape(-1)
    return Quantization(flat, np.zeros(len(flat), np.int64), form.channel if len(flat) > 1 else 0)


def _bfloat16(scale: Float32Array) -> Float32Array:
    """Return the next value with 8 significant bits, so that kernels which cut scales to bfloat16 agree."""
    return ((scale.view(np.uint32) + np.uint32(0xFFFF)) & np.uint32(0xFFFF0000)).view(np.float32)
