"""Operators that are split along their inputs, where no kernel has blocks of inputs with scales of their own.

The inputs are cut into groups, one operator per group computes with one scale per output channel, and the results are
added. With float activations the sum is float. In integers the partial sums are int16: rounded to int8 they would lose
2 to 4 % of the output's range, rounded to int16 a few thousandths of an int8 step.
"""

from dataclasses import dataclass, replace

import numpy as np

from tfq_converters.graph import ABSENT, Op, Options, Tensor
from tfq_converters.graph_edit import encoded, quantize
from tfq_converters.operators import (
    OPS,
    PLAIN_ADD,
    bias_slot,
    data_slot,
    facts_of,
    fused_activation,
    groups_of,
    is_pointwise,
    with_activation,
    without_activation,
)
from tfq_converters.quantized import OpEncoding, WeightCodes
from tfq_converters.realize.builder import FLOAT, SubgraphBuilder, ValueForm, stored
from tfq_converters.realize.dynamic_range import VERSIONS, dynamic_options
from tfq_converters.realize.full_integer import weight_version
from tfq_converters.realize.matrix import as_fully_connected


@dataclass(frozen=True)
class _Cut:
    """How the inputs of one operator are cut."""

    starts: tuple[int, ...]
    length: int  # inputs of one group of a grouped convolution
    groups: int

    @property
    def sizes(self) -> list[int]:
        ends = [*self.starts[1:], self.length]
        return [end - start for start, end in zip(self.starts, ends, strict=True)]


def split(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> None:
    """Add `op` as one operator per group of inputs, and the sum of their results."""
    weight = encoding.weights[1]
    assert isinstance(weight, WeightCodes)
    groups = groups_of(op, builder.source)
    if weight.bits < 8 and is_pointwise(op, builder.source):
        op, encoding = as_fully_connected(builder, op, encoding)
    integer = encoding.mode == "integer"
    slot = data_slot(op.code)
    form: ValueForm = encoding.read(slot) if integer else FLOAT
    weight = encoding.weights[1]
    assert isinstance(weight, WeightCodes)
    axis = facts_of(op.code).weights[0].input_axis
    length = weight.codes.shape[axis]
    cut = _Cut(tuple(range(0, length, weight.block[axis])), length, groups)
    inputs = _cut_inputs(builder, op, op.inputs[slot], form, cut)
    partial = encoding.partial if integer else FLOAT
    results = [
        _part(builder, op, encoding, index, k, inputs[k], partial)
        for k, index in enumerate(_weights(builder, op, weight, axis))
    ]
    _add_up(builder, op, encoding, results, partial)


def _cut_inputs(builder: SubgraphBuilder, op: Op, tensor: int, form: ValueForm, cut: _Cut) -> list[int]:
    """Return the input's last axis in parts; of a grouped convolution, the part of every group side by side."""
    index = builder.value(tensor, form)
    source = builder.tensors[index]
    name = builder.source.tensors[op.outputs[0]].name
    if op.code == "FULLY_CONNECTED" and source.shape[-1] != cut.length:  # several axes hold the inputs
        rows = int(np.prod(source.shape)) // cut.length
        unknown = (-1, cut.length) if -1 in source.dynamic_shape else None
        source = replace(source, name=f"{name}/rows", shape=(rows, cut.length), shape_signature=unknown)
        index = builder.reshape(index, source)
    if cut.groups > 1:
        source = _resized(source, f"{name}/groups", (cut.groups, cut.length))
        index = builder.reshape(index, source)
    parts = [builder.new(_resized(source, f"{name}/inputs_{k}", (size,))) for k, size in enumerate(cut.sizes)]
    axis = builder.constant(f"{name}/axis", np.array(len(source.shape) - 1, np.int32))
    if len(set(cut.sizes)) == 1:
        options = Options("SplitOptions", {"numSplits": len(parts)})
        builder.add(Op("SPLIT", (axis, index), tuple(parts), options, 1 if form is FLOAT else 4))
    else:
        sizes = builder.constant(f"{name}/sizes", np.array(cut.sizes, np.int32))
        options = Options("SplitVOptions", {"numSplits": len(parts)})
        builder.add(Op("SPLIT_V", (index, sizes, axis), tuple(parts), options, 1 if form is FLOAT else 2))
    if cut.groups == 1:
        return parts
    whole = builder.tensors[builder.value(tensor, form)]
    return [
        builder.reshape(part, _resized(whole, f"{name}/channels_{k}", (cut.groups * size,)))
        for k, (part, size) in enumerate(zip(parts, cut.sizes, strict=True))
    ]


def _resized(tensor: Tensor, name: str, last: tuple[int, ...]) -> Tensor:
    """Return `tensor` with another last axis, or several axes in its place."""
    unknown = None if tensor.shape_signature is None else (*tensor.shape_signature[:-1], *last)
    return replace(tensor, name=name, shape=(*tensor.shape[:-1], *last), shape_signature=unknown, data=None)


def _weights(builder: SubgraphBuilder, op: Op, weight: WeightCodes, axis: int) -> list[int]:
    """Return the stored weights of each part."""
    size = weight.block[axis]

    def make(k: int) -> int:
        part = (slice(None),) * axis + (slice(k * size, (k + 1) * size),)
        one = (slice(None),) * axis + (slice(k, k + 1),)
        codes = np.ascontiguousarray(weight.codes[part])
        block = tuple(codes.shape[a] if a == axis else b for a, b in enumerate(weight.block))
        value = WeightCodes(codes, weight.scale[one], weight.zero_point[one], weight.bits, block)
        source = builder.tensors[op.inputs[1]]
        shaped = replace(source, name=f"{source.name}/part_{k}", shape=codes.shape, shape_signature=None)
        return builder.new(stored(shaped, value))

    return [builder.once(weight, f"part_{k}", lambda k=k: make(k)) for k in range(weight.scale.shape[axis])]  # type: ignore[misc]


def _part(
    builder: SubgraphBuilder, op: Op, encoding: OpEncoding, weight: int, k: int, source: int, partial: ValueForm
) -> int:
    """Return the operator of one group; the first one adds the bias."""
    slot, of_bias = data_slot(op.code), bias_slot(op.code)
    inputs = [
        builder.value(tensor, FLOAT) if n not in (slot, 1, of_bias) else ABSENT for n, tensor in enumerate(op.inputs)
    ]
    inputs[1], inputs[slot] = weight, source
    has_bias = of_bias < len(op.inputs) and op.inputs[of_bias] != ABSENT
    inputs[of_bias:] = [_bias(builder, op, encoding, of_bias)] if has_bias and k == 0 else []
    if len(inputs) == of_bias and op.code == "CONV_2D":
        inputs.append(_no_bias(builder, op, encoding, weight))
    target = builder.source.tensors[op.outputs[0]]
    result = replace(target, name=f"{target.name}/part_{k}")
    result = result if partial is FLOAT else encoded(result, partial)
    bits = {"int8": 8, "int4": 4, "int2": 2}[builder.tensors[weight].dtype]
    if partial is FLOAT:
        version = max(op.version, VERSIONS[op.code, bits, True])
        options = dynamic_options(op)
    else:
        version = max(op.version, OPS[op.code].version("int16"), weight_version(op.code, bits))
        options = op.options
    output = builder.new(result)
    plain = replace(op, inputs=tuple(inputs), outputs=(output,), options=options, version=version)
    builder.add(without_activation(plain))
    return output


def _bias(builder: SubgraphBuilder, op: Op, encoding: OpEncoding, slot: int) -> int:
    if slot in encoding.weights:
        return builder.weight(op.inputs[slot], encoding.weights[slot])
    return builder.value(op.inputs[slot], FLOAT)


def _no_bias(builder: SubgraphBuilder, op: Op, encoding: OpEncoding, weight: int) -> int:
    """Return a bias of zeros: CONV_2D is refused without one."""
    stored_weight = builder.tensors[weight]
    name = f"{stored_weight.name}/zero_bias"
    channels = stored_weight.shape[0]
    if encoding.mode != "integer":
        return builder.constant(name, np.zeros(channels, np.float32))
    scale = np.float32(encoding.inputs[0].widened().scale) * stored_weight.affine.scale
    quantization = replace(stored_weight.affine, scale=scale, zero_point=np.zeros(len(scale), np.int64), axis=0)
    return builder.new(Tensor(name, (channels,), "int64", data=np.zeros(channels, np.int64), quantization=quantization))


def _add_up(builder: SubgraphBuilder, op: Op, encoding: OpEncoding, parts: list[int], partial: ValueForm) -> None:
    """Add the parts one after the other; the last addition applies the fused activation."""
    target = op.outputs[0]
    version = 1 if partial is FLOAT else OPS["ADD"].version("int16")
    total = parts[0]
    for k, part in enumerate(parts[1:], start=1):
        last = k == len(parts) - 1
        options = with_activation(PLAIN_ADD, fused_activation(op)) if last else PLAIN_ADD
        if last and partial is FLOAT:
            builder.add(Op("ADD", (total, part), (builder.output(target, FLOAT),), options, version))
            return
        result = replace(builder.source.tensors[target], name=f"{builder.source.tensors[target].name}/sum_{k}")
        total = builder.step(
            "ADD", (total, part), result if partial is FLOAT else encoded(result, partial), options, version
        )
    emitted = builder.output(target, encoding.outputs[0])
    builder.add(replace(quantize(builder.tensors[emitted], total, emitted), version=2))  # the first that reads int16
