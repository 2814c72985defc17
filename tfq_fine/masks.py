"""Attention masks: where a score is to be ignored it becomes -1e9 or the lowest float, far beyond the other scores.

Integers that reach so far have no step left for the scores. SOFTMAX does not need it: n values that lie ln(2^(b+1) n)
below the smallest score add up to less than half a step of its b-bit result, as if they were not there.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from tfq_converters.graph import Graph, Op, Subgraph
from tfq_converters.quantized import TensorKey
from tfq_fine.encodings import extent, integer_ops, tensor_range
from tfq_fine.observation import MOVES_VALUES
from tfq_fine.plan import Plan
from tfq_fine.statistics import Range, Statistics

OPERANDS = {"SELECT": (1, 2), "SELECT_V2": (1, 2)}


def bounded(graph: Graph, plan: Plan, statistics: Statistics) -> Statistics:
    """`statistics` with the ranges of masked scores cut to what the SOFTMAX behind them can tell apart."""
    bits = integer_ops(plan)
    cut: dict[TensorKey, Range] = {}
    consumers = graph.main.consumers()
    for op in graph.main.ops:
        path = _to_softmax(graph.main, consumers, op.outputs[0]) if op.code in OPERANDS else None
        if path:
            *tensors, softmax = path
            length = graph.main.tensors[graph.main.ops[softmax].inputs[0]].shape[-1]
            found = _cut(graph.main, op, statistics, math.log(2.0 ** (bits.get(softmax, 8) + 1) * length))
            cut |= {(0, t): found for t in tensors if found is not None}
    return replace(statistics, ranges={**statistics.ranges, **cut}) if cut else statistics


def _to_softmax(subgraph: Subgraph, consumers: Mapping[int, list[tuple[int, int]]], tensor: int) -> list[int] | None:
    """The tensors from `tensor` to the SOFTMAX that alone reads it, moved or not, then the index of that operator."""
    path = [tensor]
    while tensor not in subgraph.outputs and len(consumers.get(tensor, [])) == 1:
        ((index, slot),) = consumers[tensor]
        op = subgraph.ops[index]
        if op.code == "SOFTMAX":
            return [*path, index]
        if op.code not in MOVES_VALUES or slot != 0 or len(op.outputs) > 1:
            return None
        tensor = op.outputs[0]
        path.append(tensor)
    return None


def _cut(subgraph: Subgraph, op: Op, statistics: Statistics, distance: float) -> Range | None:
    """The range of the scores and `distance` below it; None when `op` is no mask that lies still lower."""
    operands = [op.inputs[slot] for slot in OPERANDS[op.code]]
    constants = [t for t in operands if subgraph.tensors[t].is_constant]
    scores = [t for t in operands if not subgraph.tensors[t].is_constant]
    if len(constants) != 1 or (0, scores[0]) not in statistics.ranges:
        return None
    found = tensor_range(subgraph, scores[0], statistics)
    data = subgraph.tensors[constants[0]].data
    assert data is not None
    lowest = found.low - distance
    return Range(lowest, found.high) if extent(data).high < lowest else None
