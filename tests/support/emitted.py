"""What a `.tflite` file says, read with the schema alone: nothing here shares code with what wrote the file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

_BITS = {schema.TensorType.INT8: 8, schema.TensorType.INT4: 4, schema.TensorType.INT2: 2}
_PLAIN = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT16: np.int16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
    schema.TensorType.INT8: np.int8,
}
_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_WEIGHT_SLOTS = {
    "FULLY_CONNECTED": 1,
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "TRANSPOSE_CONV": 1,
    "CONV_3D": 1,
    "BATCH_MATMUL": 1,
    "EMBEDDING_LOOKUP": 1,
    "GATHER": 0,
}
_DATA_SLOTS = {"TRANSPOSE_CONV": 2, "EMBEDDING_LOOKUP": 0, "GATHER": 1}
_BIAS_SLOTS = {"FULLY_CONNECTED": 2, "CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "TRANSPOSE_CONV": 3, "CONV_3D": 2}


@dataclass(frozen=True)
class Operator:
    """One operator of the file."""

    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: object


@dataclass(frozen=True)
class Affine:
    """How an activation is held: value = scale * (code - zero_point)."""

    bits: int
    scale: float
    zero_point: int

    @property
    def limits(self) -> tuple[int, int]:
        return -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1

    def codes(self, values: np.ndarray) -> np.ndarray:
        """The nearest codes, saturating, float64."""
        return np.clip(np.rint(values / self.scale) + self.zero_point, *self.limits)

    def seen(self, values: np.ndarray) -> np.ndarray:
        """`values` as the codes have them that QUANTIZE makes, in float32."""
        divided = values.astype(np.float32) / np.float32(self.scale)
        return (np.clip(np.rint(divided) + self.zero_point, *self.limits) - self.zero_point) * self.scale


class File:
    """The main subgraph of a file."""

    def __init__(self, content: bytes):
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        self._buffers = [None if b.data is None else np.asarray(b.data, np.uint8) for b in model.buffers]
        main = model.subgraphs[0]
        self.tensors = main.tensors
        self.inputs, self.outputs = list(main.inputs), list(main.outputs)
        codes = [_NAMES[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in model.operatorCodes]
        self.ops = [
            Operator(codes[op.opcodeIndex], tuple(op.inputs), tuple(op.outputs), op.builtinOptions)
            for op in main.operators
        ]
        self._makers = {t: op for op in self.ops for t in op.outputs}

    def is_constant(self, t: int) -> bool:
        return self._buffers[self.tensors[t].buffer] is not None

    def maker(self, t: int) -> Operator | None:
        """The operator that computes tensor `t`; None for inputs and constants."""
        return self._makers.get(t)

    def bits(self, t: int) -> int:
        """Of the type that holds a weight; 32 for float."""
        return _BITS.get(self.tensors[t].type, 32)

    def affine(self, t: int) -> Affine:
        """The encoding of an activation in integers."""
        found = self.tensors[t].quantization
        bits = {schema.TensorType.INT8: 8, schema.TensorType.INT16: 16}[self.tensors[t].type]
        return Affine(bits, float(found.scale[0]), int(found.zeroPoint[0]))

    def codes(self, t: int) -> np.ndarray:
        """The integers (or floats) that a constant holds."""
        tensor = self.tensors[t]
        raw, shape = self._buffers[tensor.buffer], tuple(tensor.shape if tensor.shape is not None else ())
        assert raw is not None
        bits = _BITS.get(tensor.type, 8)
        if bits == 8:
            return raw.view(_PLAIN[tensor.type]).reshape(shape)
        digits = np.unpackbits(raw, bitorder="little").reshape(-1, bits).astype(np.int64)
        found = digits @ np.array([*(2**k for k in range(bits - 1)), -(2 ** (bits - 1))])  # two's complement
        count = int(np.prod(shape))
        assert len(found) - count < 8 // bits and not found[count:].any()
        return found[:count].reshape(shape)

    def decoded(self, t: int) -> np.ndarray:
        """What the codes of a constant stand for, float64."""
        codes, found = self.codes(t).astype(np.float64), self.tensors[t].quantization
        if found is not None and found.detailsType == schema.QuantizationDetails.BlockwiseQuantization:
            scale = self.codes(found.details.scales).astype(np.float64)
            return codes * np.repeat(scale.reshape(len(codes), -1), found.details.blockSize, axis=1)
        if found is None or found.scale is None or len(found.scale) == 0:
            return codes
        along = [-1 if axis == found.quantizedDimension else 1 for axis in range(codes.ndim)]
        along = along if len(found.scale) > 1 else [1] * codes.ndim
        return (codes - np.reshape(found.zeroPoint, along)) * np.reshape(found.scale, along).astype(np.float64)

    def value(self, t: int) -> np.ndarray:
        """What the file computes of constants alone, float64."""
        if self.is_constant(t):
            return self.decoded(t)
        op = self._makers[t]
        return _CONSTANT_OPS[op.code](self, op)

    def stored(self, t: int) -> int:
        """The constant that the value `t` is computed of."""
        while not self.is_constant(t):
            t = self._makers[t].inputs[0]
        return t

    def behind(self, t: int) -> list[Operator]:
        """The operators that tensor `t` depends on, in order."""
        wanted, found = {t}, []
        for op in reversed(self.ops):
            if wanted & {*op.outputs}:
                wanted |= {*op.inputs}
                found.append(op)
        return found[::-1]

    def linear(self, t: int) -> "Linear":
        """The operators with weights after `t`: one, or the parts of a split."""
        return Linear(self, [op for op in self.behind(t) if self._has_weight(op)])

    def _has_weight(self, op: Operator) -> bool:
        if op.code not in _WEIGHT_SLOTS:
            return False
        weight = self.tensors[op.inputs[_WEIGHT_SLOTS[op.code]]]
        return len(weight.shape) > 1


@dataclass(frozen=True)
class Linear:
    """Operators with weights that add up to one."""

    file: File
    ops: list[Operator]

    @property
    def code(self) -> str:
        (code,) = {op.code for op in self.ops}
        return code

    def weight_tensors(self) -> list[int]:
        return [op.inputs[_WEIGHT_SLOTS[self.code]] for op in self.ops]

    def bits(self) -> set[int]:
        return {self.file.bits(self.file.stored(t)) for t in self.weight_tensors()}

    def weight(self, axis: int) -> np.ndarray:
        """The values of the whole weight; parts of a split are joined along `axis`."""
        return np.concatenate([self.file.value(t) for t in self.weight_tensors()], axis=axis)

    def bias(self) -> np.ndarray | None:
        """Of the first part; no other has one, but for zeros."""
        found = [self._bias(op) for op in self.ops]
        assert all(bias is None or not bias.any() for bias in found[1:])
        return found[0]

    def _bias(self, op: Operator) -> np.ndarray | None:
        slot = _BIAS_SLOTS.get(op.code, len(op.inputs))
        if slot >= len(op.inputs) or op.inputs[slot] == -1:
            return None
        return self.file.value(op.inputs[slot])

    def bias_step(self) -> np.ndarray:
        """The scales of the bias; 0 where it is float."""
        op = self.ops[0]
        found = self.file.tensors[op.inputs[_BIAS_SLOTS[op.code]]].quantization
        return np.zeros(1) if found is None or found.scale is None else np.asarray(found.scale, np.float64)

    def data(self) -> int:
        """The tensor that the first part reads."""
        return self.ops[0].inputs[_DATA_SLOTS.get(self.code, 0)]

    def partial(self) -> Affine:
        """The encoding of the partial sums of an integer split."""
        return self.file.affine(self.ops[0].outputs[0])


def _sliced(file: File, op: Operator) -> np.ndarray:
    begin, size = (file.codes(t) for t in op.inputs[1:])
    return file.value(op.inputs[0])[tuple(slice(b, b + s) for b, s in zip(begin, size, strict=True))]


_CONSTANT_OPS: dict[str, Callable[[File, Operator], np.ndarray]] = {
    "DEQUANTIZE": lambda file, op: file.value(op.inputs[0]),
    "MUL": lambda file, op: file.value(op.inputs[0]) * file.value(op.inputs[1]),
    "RESHAPE": lambda file, op: file.value(op.inputs[0]).reshape(file.codes(op.inputs[1])),
    "TRANSPOSE": lambda file, op: file.value(op.inputs[0]).transpose(file.codes(op.inputs[1])),
    "SLICE": _sliced,
}


def constants(file: File) -> Iterator[tuple[int, int]]:
    """(tensor, buffer) of every constant."""
    for t, tensor in enumerate(file.tensors):
        if file.is_constant(t):
            yield t, tensor.buffer
