"""Embedding tables. GATHER cannot read a table with a scale per row, EMBEDDING_LOOKUP can: the ids are flattened,
looked up, and the rows put back into shape. A table with one scale may stay a GATHER, dequantized after it."""

from dataclasses import replace

import numpy as np

from tfq_converters.graph import Op, Options, Quantization, Tensor
from tfq_converters.quantized import OpEncoding, WeightCodes
from tfq_converters.realize.builder import FLOAT, SubgraphBuilder, dequantize

LOOKUP_VERSIONS = {8: 3, 4: 4, 2: 5}  # registered for the table's type; per runtime.md's measurements


def is_embedding(builder: SubgraphBuilder, op: Op) -> bool:
    """Whether `op` gathers rows of a constant matrix."""
    return (
        op.code == "GATHER"
        and builder.source.tensors[op.inputs[0]].is_constant
        and gathers_rows(op, builder.source.tensors[op.inputs[0]].shape)
    )


def gathers_rows(op: Op, table: tuple[int, ...]) -> bool:
    """Whether a GATHER picks whole rows of a matrix of shape `table`."""
    return len(table) == 2 and op.option("axis") == 0 and not op.option("batchDims")


def look_up(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> None:
    """Add `op`, an embedding, over its quantized table; the result is float."""
    table = encoding.weights[0]
    assert isinstance(table, WeightCodes)
    ids = builder.source.tensors[op.inputs[1]]
    unknown = sum(size < 0 for size in ids.dynamic_shape)
    if unknown <= 1:
        _embedding_lookup(builder, op, table, ids)
    else:
        _gather_then_dequantize(builder, op, table)


def _embedding_lookup(builder: SubgraphBuilder, op: Op, table: WeightCodes, ids: Tensor) -> None:
    depth = table.codes.shape[1]
    name = builder.source.tensors[op.outputs[0]].name
    index = builder.value(op.inputs[1], FLOAT)
    if ids.dtype != "int32":
        index = _step(
            builder, "CAST", (index,), replace(ids, name=f"{name}_ids", dtype="int32"), _cast_options(ids.dtype)
        )
    count = int(np.prod(ids.shape, dtype=np.int64))
    dynamic = -1 in ids.dynamic_shape
    flat = Tensor(f"{name}_flat_ids", (count,), "int32", (-1,) if dynamic else None)
    index = _reshape(builder, index, flat)
    rows = Tensor(f"{name}_rows", (count, depth), "float32", (-1, depth) if dynamic else None)
    lookup = (index, builder.weight(op.inputs[0], table))
    found = _step(builder, "EMBEDDING_LOOKUP", lookup, rows, None, LOOKUP_VERSIONS[table.bits])
    result = builder.source.tensors[op.outputs[0]]
    _reshape(builder, found, result, builder.output(op.outputs[0], FLOAT))


def _gather_then_dequantize(builder: SubgraphBuilder, op: Op, table: WeightCodes) -> None:
    """Ids of which several dimensions are unknown cannot be put back by a constant RESHAPE."""
    result = builder.source.tensors[op.outputs[0]]
    if table.scale.size > 1:
        inputs = (builder.dequantized(op.inputs[0], table), builder.value(op.inputs[1], FLOAT))
        builder.add(replace(op, inputs=inputs, outputs=(builder.output(op.outputs[0], FLOAT),)))
        return
    codes = replace(
        result,
        name=f"{result.name}_codes",
        dtype=f"int{table.bits}",
        quantization=Quantization(table.scale.reshape(1), table.zero_point.reshape(1)),
    )
    inputs = (builder.weight(op.inputs[0], table), builder.value(op.inputs[1], FLOAT))
    gathered = builder.new(codes)
    builder.add(replace(op, inputs=inputs, outputs=(gathered,), version=max(op.version, 2 if table.bits == 8 else 7)))
    builder.add(dequantize(codes, gathered, builder.output(op.outputs[0], FLOAT)))


def _step(
    builder: SubgraphBuilder,
    code: str,
    inputs: tuple[int, ...],
    result: Tensor,
    options: Options | None,
    version: int = 1,
) -> int:
    output = builder.new(result)
    builder.add(Op(code, inputs, (output,), options, version))
    return output


def _reshape(builder: SubgraphBuilder, index: int, result: Tensor, output: int | None = None) -> int:
    shape = np.array(result.dynamic_shape, np.int32)
    target = builder.new(result) if output is None else output
    inputs = (index, builder.constant(f"{result.name}_shape", shape))
    builder.add(Op("RESHAPE", inputs, (target,), Options("ReshapeOptions", {"newShape": shape})))
    return target


def _cast_options(dtype: str) -> Options | None:
    codes = {"int64": 4, "uint8": 3, "int16": 7, "int8": 9}
    return Options("CastOptions", {"inDataType": codes[dtype], "outDataType": 2}) if dtype in codes else None
