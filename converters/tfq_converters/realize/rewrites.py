"""Operators whose integer kernels are wrong or slow somewhere, written as others that compute the same codes.

Each function adds the operators and returns True, or returns False where the plain operator is the better one.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tfq_converters.graph import Op, Quantization, Tensor
from tfq_converters.graph_edit import encoded, quantize
from tfq_converters.operators import OPS, PLAIN_MUL
from tfq_converters.quantized import OpEncoding
from tfq_converters.realize.builder import SubgraphBuilder
from tfq_converters.realize.recurrent import integer_lstm


def rectify(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> bool:
    """Emit RELU or RELU6 on codes that begin at 0 as requantization, which saturates there and is 100 times faster."""
    (source,), (target,) = op.inputs, op.outputs
    form, result = encoding.inputs[0], encoding.outputs[0]
    lowest = np.iinfo(result.dtype).min
    highest = result.scale * (np.iinfo(result.dtype).max - result.zero_point)
    if form.dtype != "int8" or result.zero_point != lowest or (op.code == "RELU6" and highest > 6.0 + result.scale / 2):
        return False
    start = builder.value(source, form)
    emitted = builder.output(target, result)
    builder.add(quantize(builder.tensors[emitted], start, emitted))
    return True


def sum_as_mean(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> bool:
    """Emit SUM, wrong in the reference kernels, as MEAN times the count: mean at scale s / n, times n, at scale s."""
    source, axes = builder.source.tensors[op.inputs[0]], builder.source.tensors[op.inputs[1]].data
    if axes is None or any(source.dynamic_shape[axis] < 0 for axis in axes.reshape(-1)):
        return False
    count = int(np.prod([source.shape[axis] for axis in axes.reshape(-1)]))
    form, result = encoding.inputs[0], encoding.outputs[0]
    mean = replace(result, scale=result.scale / count)
    start = builder.value(op.inputs[0], form)
    between = builder.new(encoded(builder.source.tensors[op.outputs[0]], mean, "/mean"))
    version = OPS["MEAN"].version(result.dtype)
    builder.add(replace(op, code="MEAN", inputs=(start, op.inputs[1]), outputs=(between,), version=version))
    _multiply(builder, op, encoding, (between, mean.scale), _factor(builder, op, count, result.dtype))
    return True


def negation(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> bool:
    """Emit NEG, whose kernels negate codes, as a product with -1."""
    return _times(builder, op, encoding, -1)


def zeros(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> bool:
    """Emit ZEROS_LIKE, which has no integer kernel that knows of zero points, as a product with 0."""
    return _times(builder, op, encoding, 0)


def square(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> bool:
    """Emit SQUARE, which has no integer kernel, as a product of its input with itself."""
    form = encoding.inputs[0]
    start = (builder.value(op.inputs[0], form), form.scale)
    _multiply(builder, op, encoding, start, start)
    return True


def reverse_sequence(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> bool:
    """Emit int8 REVERSE_SEQUENCE, which has no kernel, on the same codes shifted by 128: uint8 has one."""
    form, result = encoding.inputs[0], encoding.outputs[0]
    if form.dtype != "int8":
        return False
    shifted = replace(form, dtype="uint8", zero_point=form.zero_point + 128)
    start = builder.value(op.inputs[0], shifted)
    between = builder.new(encoded(builder.source.tensors[op.outputs[0]], shifted, "/reversed"))
    builder.add(replace(op, inputs=(start, builder.value(op.inputs[1], None)), outputs=(between,)))
    emitted = builder.output(op.outputs[0], result)
    builder.add(quantize(builder.tensors[emitted], between, emitted))
    return True


Factor = tuple[int, float]  # tensor of the emitted file, its scale


def _times(builder: SubgraphBuilder, op: Op, encoding: OpEncoding, number: int) -> bool:
    form = encoding.inputs[0]
    factor = _factor(builder, op, number, form.dtype)
    _multiply(builder, op, encoding, (builder.value(op.inputs[0], form), form.scale), factor)
    return True


def _factor(builder: SubgraphBuilder, op: Op, number: int, dtype: str) -> Factor:
    """Return the integer `number` as a constant of `dtype`, exact: on the largest code."""
    limit = int(np.iinfo(dtype).max)
    scale = abs(number) / limit if number else 1.0
    data = np.array([limit * int(np.sign(number))], dtype)
    quantization = Quantization(np.array([scale], np.float32), np.zeros(1, np.int64))
    name = f"{builder.source.tensors[op.outputs[0]].name}/factor"
    return builder.new(Tensor(name, (1,), dtype, data=data, quantization=quantization)), scale


def _multiply(builder: SubgraphBuilder, op: Op, encoding: OpEncoding, left: Factor, right: Factor) -> None:
    result = encoding.outputs[0]
    enlarges = left[1] * right[1] >= result.scale
    version = max(OPS["MUL"].version(result.dtype), 3 if enlarges else 1)  # the first kernels that may enlarge have it
    options = PLAIN_MUL
    builder.add(Op("MUL", (left[0], right[0]), (builder.output(op.outputs[0], result),), options, version))


REWRITES: dict[str, Callable[[SubgraphBuilder, Op, OpEncoding], bool]] = {
    "RELU": rectify,
    "RELU6": rectify,
    "SUM": sum_as_mean,
    "NEG": negation,
    "ZEROS_LIKE": zeros,
    "SQUARE": square,
    "REVERSE_SEQUENCE": reverse_sequence,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": integer_lstm,
}
