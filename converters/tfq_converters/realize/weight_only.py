"""Weights stored small and made float again by an explicit DEQUANTIZE; the operator itself computes in float."""

from dataclasses import replace

from tfq_converters.graph import Op
from tfq_converters.operators import facts_of
from tfq_converters.quantized import OpEncoding
from tfq_converters.realize.blocks import dequantized
from tfq_converters.realize.builder import FLOAT, SubgraphBuilder


def weight_only(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> None:
    """Add `op` in float, over dequantized weights where `encoding` has any."""
    if facts_of(op.code).reads_shape:
        builder.add(
            replace(op, inputs=(builder.any_form(op.inputs[0]),), outputs=(builder.output(op.outputs[0], FLOAT),))
        )
        return
    inputs = [
        dequantized(builder, tensor, encoding.weights[slot])
        if slot in encoding.weights
        else builder.value(tensor, FLOAT)
        for slot, tensor in enumerate(op.inputs)
    ]
    outputs = [builder.output(tensor, FLOAT) for tensor in op.outputs]
    builder.add(replace(op, inputs=tuple(inputs), outputs=tuple(outputs)))
