"""Weights and activations in integers, the operator's integer kernel computes."""

from dataclasses import replace

from tfq_converters.graph import Op, Options
from tfq_converters.op_table import OPS
from tfq_converters.quantized import OpEncoding
from tfq_converters.realize.builder import FLOAT, SubgraphBuilder

# (operator, weight bits) -> version, where the weight type decides
WEIGHT_VERSIONS: dict[tuple[str, int], int] = {
    ("FULLY_CONNECTED", 4): 10,
    ("FULLY_CONNECTED", 2): 14,
    ("CONV_2D", 4): 7,
    ("DEPTHWISE_CONV_2D", 4): 7,
}
# options that int16 activations need
INT16_OPTIONS: dict[str, dict[str, object]] = {"ADD": {"potScaleInt16": False}, "SUB": {"potScaleInt16": False}}


def full_integer(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> None:
    """Add `op` on integer inputs and outputs, as `encoding` says for each slot; other slots stay as they are."""
    inputs = [
        builder.weight(tensor, encoding.weights[slot])
        if slot in encoding.weights
        else builder.value(tensor, encoding.inputs.get(slot, FLOAT))
        for slot, tensor in enumerate(op.inputs)
    ]
    outputs = [builder.output(tensor, encoding.outputs.get(slot, FLOAT)) for slot, tensor in enumerate(op.outputs)]
    builder.add(
        replace(
            op,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            version=_version(op, encoding),
            options=_options(op, encoding),
        )
    )


def _is_int16(encoding: OpEncoding) -> bool:
    return any(form.dtype == "int16" for form in (*encoding.inputs.values(), *encoding.outputs.values()))


def _version(op: Op, encoding: OpEncoding) -> int:
    row = OPS[op.code]
    by_weight = 1
    if row.weight is not None and row.weight in encoding.weights:
        by_weight = WEIGHT_VERSIONS.get((op.code, encoding.weights[row.weight].bits), 1)  # type: ignore[union-attr]
    return max(op.version, by_weight, row.version_int16 if _is_int16(encoding) else row.version_int8)


def _options(op: Op, encoding: OpEncoding) -> Options | None:
    if op.options is None or not _is_int16(encoding) or op.code not in INT16_OPTIONS:
        return op.options
    return replace(op.options, values={**op.options.values, **INT16_OPTIONS[op.code]})
