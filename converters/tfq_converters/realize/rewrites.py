"""Operators whose integer kernels are wrong or slow somewhere, written as others that compute the same codes.

Each function adds the operators and returns True, or returns False where the plain operator is the better one.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tfq_converters.graph import Op, Options, Quantization, Tensor
from tfq_converters.quantized import OpEncoding
from tfq_converters.realize.builder import SubgraphBuilder, encoded


def rectify(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> bool:
    """RELU and RELU6 onto codes that begin at 0: requantization saturates there, and is a hundred times faster."""
    (source,), (target,) = op.inputs, op.outputs
    form, result = encoding.inputs[0], encoding.outputs[0]
    lowest = np.iinfo(result.dtype).min
    highest = result.scale * (np.iinfo(result.dtype).max - result.zero_point)
    if form.dtype != "int8" or result.zero_point != lowest or (op.code == "RELU6" and highest > 6.0 + result.scale / 2):
        return False
    start = builder.value(source, form)
    builder.add(Op("QUANTIZE", (start,), (builder.output(target, result),), Options("QuantizeOptions", {})))
    return True


def sum_as_mean(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> bool:
    """SUM, which the reference kernels get wrong, as MEAN times the count: mean at scale s / n, times n, at scale s."""
    source, axes = builder.source.tensors[op.inputs[0]], builder.source.tensors[op.inputs[1]].data
    if axes is None or any(source.dynamic_shape[axis] < 0 for axis in axes.reshape(-1)):
        return False
    count = int(np.prod([source.shape[axis] for axis in axes.reshape(-1)]))
    form, result = encoding.inputs[0], encoding.outputs[0]
    mean = replace(result, scale=result.scale / count)
    limit = np.iinfo(result.dtype).max
    start = builder.value(op.inputs[0], form)
    between = builder.new(encoded(builder.source.tensors[op.outputs[0]], mean, "/mean"))
    version = 3 if result.dtype == "int16" else 2
    builder.add(replace(op, code="MEAN", inputs=(start, op.inputs[1]), outputs=(between,), version=version))
    factor = Tensor(
        f"{builder.source.tensors[op.outputs[0]].name}/count",
        (1,),
        result.dtype,
        data=np.array([limit], result.dtype),
        quantization=Quantization(np.array([count / limit], np.float32), np.zeros(1, np.int64)),
    )
    options = Options("MulOptions", {"fusedActivationFunction": 0})
    inputs = (between, builder.new(factor))
    version = 4 if result.dtype == "int16" else 2
    builder.add(Op("MUL", inputs, (builder.output(op.outputs[0], result),), options, version))
    return True


REWRITES: dict[str, Callable[[SubgraphBuilder, Op, OpEncoding], bool]] = {
    "RELU": rectify,
    "RELU6": rectify,
    "SUM": sum_as_mean,
}
