"""Embedding tables whose rows are stored in few bits.

GATHER cannot read a table with a scale per row, EMBEDDING_LOOKUP can: the ids are flattened, looked up, and the rows
are put back into shape. A table with one scale may stay a GATHER, whose result is dequantized.
"""

from dataclasses import replace

import numpy as np

from tfq_converters.graph import Op, Options, Quantization, Tensor
from tfq_converters.graph_edit import dequantize
from tfq_converters.kernels import KERNEL_BLOCKS
from tfq_converters.operators import PLAIN_ADD, PLAIN_MUL
from tfq_converters.quantized import OpEncoding, WeightCodes
from tfq_converters.realize.blocks import dequantized, stored_blocks
from tfq_converters.realize.builder import FLOAT, SubgraphBuilder, stored

ASIDE_BYTES = 2**13  # zero points: below it, the two operators more are not worth it
LOOKUP_VERSIONS = {8: 3, 4: 4, 2: 5}  # registered for the table's type; per runtime.md's measurements


def is_embedding(builder: SubgraphBuilder, op: Op) -> bool:
    """Return whether `op` gathers rows of a constant matrix."""
    return (
        op.code == "GATHER"
        and builder.source.tensors[op.inputs[0]].is_constant
        and gathers_rows(op, builder.source.tensors[op.inputs[0]].shape)
    )


def gathers_rows(op: Op, table: tuple[int, ...]) -> bool:
    """Return whether a GATHER picks whole rows of a matrix of shape `table`."""
    return len(table) == 2 and op.option("axis") == 0 and not op.option("batchDims")


def look_up(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> None:
    """Add `op`, an embedding, over its quantized table; the result is float."""
    table = encoding.weights[0]
    assert isinstance(table, WeightCodes)
    ids, rows = builder.source.tensors[op.inputs[1]], builder.source.tensors[op.outputs[0]]
    unknown = sum(size < 0 for size in ids.dynamic_shape)
    ranked = len(rows.shape) == len(ids.shape) + 1  # after a string lookup neither shape is known
    if unknown <= 1 and ranked:
        _embedding_lookup(builder, op, table, ids)
    else:
        _gather_then_dequantize(builder, op, table)


def _embedding_lookup(builder: SubgraphBuilder, op: Op, table: WeightCodes, ids: Tensor) -> None:
    name = builder.source.tensors[op.outputs[0]].name
    index = builder.value(op.inputs[1], FLOAT)
    if ids.dtype != "int32":
        integers = replace(ids, name=f"{name}_ids", dtype="int32")
        index = builder.step("CAST", (index,), integers, _cast_options(ids.dtype))
    dynamic = -1 in ids.dynamic_shape
    count = int(np.prod(ids.shape, dtype=np.int64))
    index = builder.reshape(index, Tensor(f"{name}_flat_ids", (count,), "int32", (-1,) if dynamic else None))
    parts = table.scale.shape[1]
    if parts > 1 and not reads_blocks(table):
        index = _ids_of_blocks(builder, name, index, parts, dynamic)
        count *= parts
    in_blocks = parts > 1 and not reads_blocks(table)
    depth = table.codes.shape[1]
    width = table.block[1] if in_blocks else depth

    def rows(suffix: str, height: int, length: int) -> Tensor:
        return Tensor(f"{name}_{suffix}", (height, length), "float32", (-1, length) if dynamic else None)

    stored = builder.once(table, "rows", lambda: builder.new(_stored_rows(builder, op.inputs[0], table)))
    result = rows("rows", count, builder.tensors[stored].shape[1])
    looked_up = builder.step("EMBEDDING_LOOKUP", (index, stored), result, None, LOOKUP_VERSIONS[table.bits])
    if scales_aside(table):
        column = builder.once(table, "scales", lambda: builder.new(_scale_column(builder, op.inputs[0], table)))
        scales = builder.step("EMBEDDING_LOOKUP", (index, column), rows("scales", count, 1), None)
        scaled = rows("scaled_rows", count, result.shape[1])
        looked_up = builder.step("MUL", (looked_up, scales), scaled, PLAIN_MUL)
    looked_up = _first_columns(builder, looked_up, rows("whole_rows", count, width))
    if in_blocks and parts * width != depth:
        looked_up = builder.reshape(looked_up, rows("joined", count // parts, parts * width))
        looked_up = _first_columns(builder, looked_up, rows("columns", count // parts, depth))
    builder.reshape(looked_up, builder.source.tensors[op.outputs[0]], builder.output(op.outputs[0], FLOAT))


def _first_columns(builder: SubgraphBuilder, index: int, result: Tensor) -> int:
    """Emit a SLICE to the columns of `result`, where there are more."""
    if builder.tensors[index].shape == result.shape:
        return index
    begin = builder.constant(f"{result.name}_begin", np.zeros(2, np.int32))
    size = builder.constant(f"{result.name}_size", np.array([-1, result.shape[1]], np.int32))
    return builder.step("SLICE", (index, begin, size), result, Options("SliceOptions", {}))


def reads_blocks(table: WeightCodes) -> bool:
    """Return whether the kernel reads the blocks of `table` itself: int4, of a size that it knows."""
    return table.bits == 4 and table.scale.shape[1] > 1 and kernel_reads_rows(table.codes.shape[1], table.block[1])


def kernel_reads_rows(depth: int, block: int) -> bool:
    """Return whether EMBEDDING_LOOKUP reads int4 rows of `depth` values in blocks of `block`."""
    return block in KERNEL_BLOCKS and depth % block == 0


def scales_aside(table: WeightCodes) -> bool:
    """Return whether the scales of the rows are a table of their own, looked up by the same ids.

    A file gives every scale of a tensor a zero point of 8 bytes, and every runtime refuses fewer of them than scales.
    A product with the scale is what the kernel computes, so the results are the same bit for bit.
    """
    return not reads_blocks(table) and not table.zero_point.any() and 8 * table.scale.size > ASIDE_BYTES


def _scale_column(builder: SubgraphBuilder, tensor: int, table: WeightCodes) -> Tensor:
    """Return the scale of each row of the stored table, [rows, 1] float32."""
    data = table.scale.reshape(-1, 1).astype(np.float32)
    return Tensor(f"{builder.tensors[tensor].name}_scales", data.shape, "float32", data=data)


def _stored_rows(builder: SubgraphBuilder, tensor: int, table: WeightCodes) -> Tensor:
    """Return the table as the lookup reads it: rows, or blocks as rows; zeros fill each row to whole bytes."""
    source = builder.tensors[tensor]
    if reads_blocks(table):
        return stored_blocks(source, table, table.block[1])
    codes, parts, block = table.codes, table.scale.shape[1], table.block
    if parts > 1:
        width = block[1]
        codes = np.pad(codes, ((0, 0), (0, parts * width - codes.shape[1]))).reshape(-1, width)
        block = (1, width)
    codes = np.pad(codes, ((0, 0), (0, -codes.shape[1] % (8 // table.bits))))
    scale, zero_point = table.scale.reshape(-1, 1), table.zero_point.reshape(-1, 1)
    if scales_aside(table):
        scale, zero_point, block = np.ones((1, 1), np.float32), np.zeros((1, 1), np.int64), codes.shape
    rows = WeightCodes(codes, scale, zero_point, table.bits, block)
    return stored(replace(source, shape=codes.shape, shape_signature=None), rows)


def _ids_of_blocks(builder: SubgraphBuilder, name: str, index: int, parts: int, dynamic: bool) -> int:
    """Return block ids: row i of the table is rows parts * i ... parts * i + parts - 1 of the blocks."""
    count = builder.tensors[index].shape[0]

    def integers(suffix: str, shape: tuple[int, ...]) -> Tensor:
        unknown = (-1, *shape[1:]) if dynamic else None
        return Tensor(f"{name}_{suffix}", shape, "int32", unknown)

    column = builder.reshape(index, integers("column", (count, 1)))
    factor = builder.constant(f"{name}_parts", np.array([parts], np.int32))
    steps = builder.constant(f"{name}_steps", np.arange(parts, dtype=np.int32)[None])
    first = builder.step("MUL", (column, factor), integers("first", (count, 1)), PLAIN_MUL)
    options = PLAIN_ADD
    every = builder.step("ADD", (first, steps), integers("every", (count, parts)), options)
    return builder.reshape(every, integers("blocks", (count * parts,)))


def _gather_then_dequantize(builder: SubgraphBuilder, op: Op, table: WeightCodes) -> None:
    """Look up codes first: a constant RESHAPE cannot restore ids with several unknown dimensions."""
    result = builder.source.tensors[op.outputs[0]]
    if table.scale.size > 1 or table.bits == 2 or table.codes.shape[1] * table.bits % 8:
        inputs = (dequantized(builder, op.inputs[0], table), builder.value(op.inputs[1], FLOAT))
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


def _cast_options(dtype: str) -> Options | None:
    codes = {"int64": 4, "uint8": 3, "int16": 7, "int8": 9}
    return Options("CastOptions", {"inDataType": codes[dtype], "outDataType": 2}) if dtype in codes else None
