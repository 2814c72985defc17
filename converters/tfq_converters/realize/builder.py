"""Builds one subgraph of the emitted file: remembers in which forms each value of the float graph exists so far, and
inserts the conversion when an operator asks for another form."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from tfq_converters.graph import ABSENT, Op, Options, Quantization, Subgraph, Tensor
from tfq_converters.quantized import ActivationEncoding, WeightCodes

FLOAT = None  # the form of a value that is not in integers
Form = ActivationEncoding | None


class SubgraphBuilder:
    """Tensors of the float subgraph keep their indices until `finish`; new ones are appended."""

    def __init__(self, source: Subgraph):
        self.source = source
        self.tensors: list[Tensor] = list(source.tensors)
        self.ops: list[Op] = []
        self.layer = ""  # given to every op that is added
        self._forms: dict[int, dict[Form, int]] = {}
        self._constants: dict[tuple[int, str], tuple[int, object]] = {}
        computed = {tensor for op in source.ops for tensor in op.outputs}
        for index in range(len(source.tensors)):
            if index not in computed:
                self._forms[index] = {FLOAT: index}

    def add(self, op: Op) -> None:
        """Append an operator."""
        self.ops.append(replace(op, layer=op.layer or self.layer))

    def new(self, tensor: Tensor) -> int:
        """Append a tensor; returns its index."""
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, name: str, data: np.ndarray) -> int:
        """Append a plain constant, such as a shape."""
        return self.new(Tensor(name, data.shape, data.dtype.name, data=data))

    def value(self, tensor: int, form: Form) -> int:
        """The emitted tensor that holds `tensor` in `form`, converting when it does not exist yet."""
        if tensor == ABSENT:
            return ABSENT
        forms = self._forms[tensor]
        if form not in forms:
            forms[form] = self._to_float(tensor) if form is FLOAT else self._to_integer(tensor, form)
        return forms[form]

    def any_form(self, tensor: int) -> int:
        """The emitted tensor that holds `tensor` in the form in which it was made."""
        return next(iter(self._forms[tensor].values()))

    def all_forms(self) -> dict[int, dict[Form, int]]:
        """For every value of the float subgraph, the forms in which it exists so far, in the order of their making."""
        return self._forms

    def keep_name(self, tensor: int, emitted: int) -> None:
        """Give the border tensor `emitted` the name that `tensor` has in the float graph."""
        name = self.source.tensors[tensor].name
        if emitted != tensor:
            self.tensors[tensor] = replace(self.tensors[tensor], name=f"{name}_inner")
            self.tensors[emitted] = replace(self.tensors[emitted], name=name)

    def output(self, tensor: int, form: Form) -> int:
        """Declare that the next operator writes `tensor` in `form`; the emitted tensor, returned, keeps the name."""
        if form is not FLOAT:
            self.tensors[tensor] = encoded(self.tensors[tensor], form)
        self._forms[tensor] = {form: tensor}
        return tensor

    def weight(self, tensor: int, value: WeightCodes | np.ndarray) -> int:
        """The emitted constant that stores `value` in place of the constant `tensor`."""
        key = (id(value), "stored")
        if key not in self._constants:
            self._constants[key] = (self.new(stored(self.tensors[tensor], value)), value)
        return self._constants[key][0]

    def dequantized(self, tensor: int, value: WeightCodes | np.ndarray) -> int:
        """The float tensor that an explicit DEQUANTIZE makes of the stored `value`; a float32 one needs none."""
        if isinstance(value, np.ndarray) and value.dtype == np.float32:
            return self.weight(tensor, value)
        key = (id(value), "dequantized")
        if key not in self._constants:
            stored_index = self.weight(tensor, value)
            result = self.new(_float_like(self.tensors[tensor], "_dequantized"))
            self.add(dequantize(self.tensors[stored_index], stored_index, result))
            self._constants[key] = (result, value)
        return self._constants[key][0]

    def _to_float(self, tensor: int) -> int:
        stored_index = self.any_form(tensor)
        result = self.new(_float_like(self.source.tensors[tensor], "_dequantized"))
        self.add(dequantize(self.tensors[stored_index], stored_index, result))
        return result

    def _to_integer(self, tensor: int, form: ActivationEncoding) -> int:
        forms = self._forms[tensor]
        same_type = [index for known, index in forms.items() if known is not FLOAT and _requantizes(known, form)]
        start = same_type[0] if same_type else self.value(tensor, FLOAT)
        result = self.new(encoded(replace(self.source.tensors[tensor], data=None), form, "_quantized"))
        self.add(Op("QUANTIZE", (start,), (result,), Options("QuantizeOptions", {}), 2 if form.dtype == "int16" else 1))
        return result

    def finish(self, inputs: Iterable[int], outputs: Iterable[int]) -> tuple[Subgraph, dict[int, int]]:
        """The subgraph without its unused tensors, and the map from tensor indices here to those in it."""
        borders = (tuple(inputs), tuple(outputs))
        used = {*borders[0], *borders[1]} | {t for op in self.ops for t in (*op.inputs, *op.outputs, *op.intermediates)}
        order = [index for index in range(len(self.tensors)) if index in used]
        moved = {old: new for new, old in enumerate(order)} | {ABSENT: ABSENT}

        def move(indices: Iterable[int]) -> tuple[int, ...]:
            return tuple(moved[index] for index in indices)

        ops = tuple(
            replace(op, inputs=move(op.inputs), outputs=move(op.outputs), intermediates=move(op.intermediates))
            for op in self.ops
        )
        tensors = tuple(self.tensors[index] for index in order)
        return replace(self.source, tensors=tensors, ops=ops, inputs=move(borders[0]), outputs=move(borders[1])), moved


def _requantizes(known: ActivationEncoding, form: ActivationEncoding) -> bool:
    """Whether QUANTIZE converts between the two directly; int8 to int16 is refused by tf.lite 2.21."""
    return known.dtype == form.dtype or (known.dtype, form.dtype) in {
        ("int16", "int8"),
        ("uint8", "int8"),
        ("int8", "uint8"),
    }


def encoded(tensor: Tensor, form: ActivationEncoding, suffix: str = "") -> Tensor:
    """`tensor` held in integers."""
    quantization = Quantization(np.array([form.scale], np.float32), np.array([form.zero_point], np.int64))
    return replace(tensor, name=tensor.name + suffix, dtype=form.dtype, quantization=quantization)


def stored(tensor: Tensor, value: WeightCodes | np.ndarray) -> Tensor:
    """The constant `tensor` with its quantized storage."""
    if isinstance(value, np.ndarray):
        return replace(tensor, dtype=value.dtype.name, data=value)
    return replace(
        tensor,
        dtype=f"int{value.bits}",
        data=value.codes,
        quantization=_axis_quantization(tensor.name, value),
    )


def _axis_quantization(name: str, value: WeightCodes) -> Quantization:
    """Scales per tensor or along one axis; a scale that several channels share is repeated."""
    varying = [axis for axis, blocks in enumerate(value.scale.shape) if blocks > 1]
    assert len(varying) <= 1, f"{name}: scales vary along axes {varying}; only one can be stored"
    axis = varying[0] if varying else 0
    repeats = value.codes.shape[axis] // value.scale.shape[axis] if varying else 1
    scale = np.repeat(value.scale.reshape(-1), repeats).astype(np.float32)
    return Quantization(scale, np.repeat(value.zero_point.reshape(-1), repeats), axis)


def dequantize(tensor: Tensor, index: int, result: int) -> Op:
    """DEQUANTIZE at the version that the stored type needs."""
    per_axis = tensor.quantization is not None and len(tensor.quantization.scale) > 1
    version = {"float16": 3, "int16": 3, "int4": 6, "int2": 7}.get(tensor.dtype, 5 if per_axis else 2)
    return Op("DEQUANTIZE", (index,), (result,), Options("DequantizeOptions", {}), version)


def _float_like(tensor: Tensor, suffix: str) -> Tensor:
    return replace(tensor, name=tensor.name + suffix, dtype="float32", data=None, quantization=None)
