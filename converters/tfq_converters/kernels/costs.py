"""Costs of operators, by the measured table: `ns_base + ns_per_unit * units` on the default kernels, one thread.

1x1 convolutions, and what stands in their place, also have `ns_per_row`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfq_converters.graph import Op, Subgraph, Tensor
from tfq_converters.kernels.table import KernelTable, load
from tfq_converters.operators import data_of, lstm
from tfq_converters.quantized import Form

POINTWISE = "POINTWISE"  # the table's name of FULLY_CONNECTED in place of a 1x1 convolution
AS_MATRIX = frozenset({"pointwise", "blockwise"})  # forms with costs at 8, 4 and 2 bits, under that name
AS_QUANTIZE = frozenset({"RELU", "RELU6"})  # what `realize.rewrites` makes of them, on int8
UNKNOWN: Mapping[str, Any] = {"ns_base": 100.0, "ns_per_unit": 0.1, "delegated": True}  # the same for every kind


def is_known(op: Op, subgraph: Subgraph, kind: str, table: KernelTable | None = None) -> bool:
    """Return whether the table (the shipped one when None) has a measured cost of `op`."""
    return kind in (table or load()).cost.get(_row_name(op, subgraph), {})


def cost(op: Op, subgraph: Subgraph, kind: str, table: KernelTable | None = None) -> float:
    """Return the nanoseconds of one run of `op`.

    Args:
        op: an operator of the float graph; unknown sizes count as 1.
        subgraph: the one that holds it.
        kind: "float32", "int8", "int16", "dynamic_int8" or "weight_only_int8".
        table: the shipped one when None.
    """
    if not op.outputs:  # it writes a variable or a table, and takes next to nothing
        return 0.0
    if op.code in AS_QUANTIZE and kind == "int8":
        return conversion(subgraph.tensors[op.outputs[0]], "QUANTIZE", table=table)
    costs = table or load()
    rows = costs.cost.get(_row_name(op, subgraph), {})
    return _op_cost(op, subgraph, rows.get(kind, UNKNOWN), rows.get("unit", "output"), costs)


def form_cost(
    op: Op, subgraph: Subgraph, kind: str, form: Form, parts: int = 1, table: KernelTable | None = None
) -> float:
    """Return the nanoseconds of `op` in `form`; a split of `parts` operators includes the additions between them.

    `kind` is as of `cost`; the forms in AS_MATRIX also have "dynamic_int4" and "dynamic_int2".
    """
    costs = table or load()
    if form in AS_MATRIX:
        return _op_cost(op, subgraph, costs.cost.get(POINTWISE, {}).get(kind, UNKNOWN), "mac", costs)
    whole = cost(op, subgraph, kind, costs)
    if form != "split" or parts == 1:
        return whole
    row = costs.cost.get(_row_name(op, subgraph), {}).get(kind, UNKNOWN)
    addition = costs.cost["ADD"]["float32"]
    sums = (parts - 1) * _nanoseconds(addition, sum(_size(subgraph.tensors[t]) for t in op.outputs), costs)
    return whole + (parts - 1) * float(row["ns_base"]) + sums


def conversion(tensor: Tensor, code: str, dtype: str = "int8", table: KernelTable | None = None) -> float:
    """Return the nanoseconds of a QUANTIZE or DEQUANTIZE of `tensor`."""
    costs = table or load()
    return _nanoseconds(costs.cost[code][dtype], _size(tensor), costs)


def _op_cost(op: Op, subgraph: Subgraph, row: Mapping[str, Any], unit: str, table: KernelTable) -> float:
    result = subgraph.tensors[op.outputs[0]]
    rows = _size(result) // max(result.shape[-1], 1) if "ns_per_row" in row else 0
    return _nanoseconds(row, _units(op, subgraph, unit), table) + rows * float(row.get("ns_per_row", 0.0))


def _nanoseconds(row: Mapping[str, Any], units: int, table: KernelTable) -> float:
    partition = 0.0 if row["delegated"] else table.partition_ns  # it parts what the delegate runs around it
    return float(row["ns_base"] + row["ns_per_unit"] * units + partition)


def _size(tensor: Tensor) -> int:
    return int(np.prod(tensor.shape, dtype=np.int64))


def _row_name(op: Op, subgraph: Subgraph) -> str:
    if op.code == "CONV_2D" and subgraph.tensors[op.inputs[1]].shape[1:3] == (1, 1):
        return "CONV_2D_1X1"
    return op.code


def _units(op: Op, subgraph: Subgraph, unit: str) -> int:
    outputs = sum(_size(subgraph.tensors[t]) for t in op.outputs)
    if unit == "output":
        return outputs
    if unit == "input":
        return _size(subgraph.tensors[op.inputs[0]])
    if op.code == "BATCH_MATMUL":
        inner = subgraph.tensors[op.inputs[0]].shape
        return outputs * (inner[-2] if op.option("adjX") else inner[-1])
    weight = subgraph.tensors[op.inputs[1]].shape
    if op.code == lstm.CODE:
        return outputs * 4 * (weight[1] + weight[0])  # [units, inputs], and [units, units] of the state
    if op.code == "TRANSPOSE_CONV":
        return _size(subgraph.tensors[data_of(op)]) * int(np.prod(weight[:3]))  # every input times a window, per output
    if op.code == "DEPTHWISE_CONV_2D":
        return outputs * int(np.prod(weight[1:3]))
    return outputs * int(np.prod(weight[1:]))  # FULLY_CONNECTED [N, K], CONV_2D [O, h, w, I]
