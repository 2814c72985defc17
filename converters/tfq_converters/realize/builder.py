"""The builder of one subgraph of the emitted file.

It remembers in which forms each value of the float graph exists so far, and inserts the conversion when an operator
asks for another form.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tfq_converters.graph import ABSENT, FloatArray, IdentityCache, Op, Options, Quantization, Subgraph, Tensor
from tfq_converters.graph_edit import GraphBuilder, dequantize, encoded, float_like, quantize
from tfq_converters.quantized import ActivationEncoding, WeightCodes

FLOAT = None  # the form of a value that is not in integers
ValueForm = ActivationEncoding | None


class SubgraphBuilder(GraphBuilder):
    """A subgraph of the file; it knows in which forms each value of the float subgraph `source` exists so far."""

    def __init__(self, source: Subgraph):
        super().__init__(source.tensors)
        self.source = source
        self._forms: dict[int, dict[ValueForm, int]] = {}
        self._constants, self._matrices = IdentityCache(), IdentityCache()
        computed = {tensor for op in source.ops for tensor in op.outputs}
        for index in range(len(source.tensors)):
            if index not in computed:
                self._forms[index] = {FLOAT: index}

    def value(self, tensor: int, form: ValueForm) -> int:
        """Return the emitted tensor that holds `tensor` in `form`, converting when it does not exist yet."""
        if tensor == ABSENT:
            return ABSENT
        forms = self._forms[tensor]
        if form not in forms:
            forms[form] = self._to_float(tensor) if form is FLOAT else self._to_integer(tensor, form)
        return forms[form]

    def any_form(self, tensor: int) -> int:
        """Return the emitted tensor that holds `tensor` in the form in which it was made."""
        return next(iter(self._forms[tensor].values()))

    def all_forms(self) -> dict[int, dict[ValueForm, int]]:
        """Return, for every value of the float subgraph, the forms in which it exists so far, oldest first."""
        return {tensor: forms for tensor, forms in self._forms.items() if tensor < len(self.source.tensors)}

    def keep_name(self, tensor: int, emitted: int) -> None:
        """Give the border tensor `emitted` the name that `tensor` has in the float graph."""
        name = self.source.tensors[tensor].name
        if emitted != tensor:
            self.tensors[tensor] = replace(self.tensors[tensor], name=f"{name}_inner")
            self.tensors[emitted] = replace(self.tensors[emitted], name=name)

    def output(self, tensor: int, form: ValueForm) -> int:
        """Declare that the next operator writes `tensor` in `form`; return the emitted tensor, which keeps the name."""
        if form is not FLOAT:
            self.tensors[tensor] = encoded(self.tensors[tensor], form)
        self._forms[tensor] = {form: tensor}
        return tensor

    def weight(self, tensor: int, value: WeightCodes | FloatArray) -> int:
        """Return the emitted constant that stores `value` in place of the constant `tensor`."""
        return self.once(value, "stored", lambda: self.new(stored(self.tensors[tensor], value)))

    def once(self, value: object, purpose: str, make: Callable[[], int]) -> int:
        """Return the tensor that `make` builds of the constant `value`; built once for all operators that share it."""
        return self._constants.once(make, value, key=purpose)

    def matrix(self, codes: WeightCodes) -> WeightCodes:
        """Return the codes [O, 1, 1, I] of a 1x1 convolution as [O, I]; the same value each time."""

        def flat() -> WeightCodes:
            shape = (codes.codes.shape[0], codes.codes.shape[3])
            scales = (codes.scale.shape[0], codes.scale.shape[3])
            return WeightCodes(
                codes.codes.reshape(shape),
                codes.scale.reshape(scales),
                codes.zero_point.reshape(scales),
                codes.bits,
                (codes.block[0], codes.block[3]),
            )

        return self._matrices.once(flat, codes)

    def know(self, index: int, form: ValueForm) -> None:
        """Declare that the new tensor `index` is a value in `form`, which operators may request like any other."""
        self._forms[index] = {form: index}

    def reshape(self, index: int, result: Tensor, output: int | None = None) -> int:
        """Append a RESHAPE to the shape of `result`, into tensor `output` when that is given."""
        shape = np.array(result.dynamic_shape, np.int32)
        target = self.new(result) if output is None else output
        inputs = (index, self.constant(f"{result.name}_shape", shape))
        self.add(Op("RESHAPE", inputs, (target,), Options("ReshapeOptions", {"newShape": shape})))
        return target

    def _to_float(self, tensor: int) -> int:
        stored_index = self.any_form(tensor)
        result = self.new(float_like(self.tensors[tensor], "_dequantized"))
        self.add(dequantize(self.tensors[stored_index], stored_index, result))
        return result

    def _to_integer(self, tensor: int, form: ActivationEncoding) -> int:
        forms = self._forms[tensor]
        made, *_ = forms  # what was made in float is rounded once
        same_type = [index for other, index in forms.items() if other is not FLOAT and _requantizes(other, form)]
        start = same_type[0] if same_type and made is not FLOAT else self.value(tensor, FLOAT)
        result = self.new(encoded(replace(self.tensors[tensor], data=None), form, "_quantized"))
        self.add(quantize(self.tensors[result], start, result))
        return result


def _requantizes(known: ActivationEncoding, form: ActivationEncoding) -> bool:
    """Return whether QUANTIZE converts between the two directly; int8 to int16 is refused by tf.lite 2.21."""
    return known.dtype == form.dtype or (known.dtype, form.dtype) in {
        ("int16", "int8"),
        ("uint8", "int8"),
        ("int8", "uint8"),
    }


def stored(tensor: Tensor, value: WeightCodes | FloatArray) -> Tensor:
    """Return the constant `tensor` stored as `value`, which has its shape."""
    if isinstance(value, np.ndarray):
        return replace(tensor, dtype=value.dtype.name, data=value)
    return replace(
        tensor,
        dtype=f"int{value.bits}",
        data=value.codes,
        quantization=_axis_quantization(tensor.name, value),
    )


def varying_axes(value: WeightCodes) -> list[int]:
    """Return the axes along which scales differ; a file's tensor has one at most."""
    return [axis for axis, blocks in enumerate(value.scale.shape) if blocks > 1]


def _axis_quantization(name: str, value: WeightCodes) -> Quantization:
    """Return scales per tensor or along one axis; a scale that several channels share is repeated."""
    varying = varying_axes(value)
    assert len(varying) <= 1, f"{name}: scales vary along axes {varying}; only one can be stored"
    if not varying:
        return Quantization(value.scale.reshape(-1).astype(np.float32), value.zero_point.reshape(-1))
    axis = varying[0]
    length, repeats = value.codes.shape[axis], value.block[axis]
    scale = np.repeat(value.scale.reshape(-1), repeats)[:length].astype(np.float32)
    return Quantization(scale, np.repeat(value.zero_point.reshape(-1), repeats)[:length], axis)
