"""Attention masks: where a score is to be ignored it becomes -1e9 or the lowest float, far beyond the other scores.

Integers that reach so far have no step left for the scores. SOFTMAX does not need it: n values that lie ln(2^(b+1) n)
below the smallest score add up to less than half a step of its b-bit result, as if they were not there.

A mask is selected in place of a score, or added to the scores. What is added saturates where it takes the largest score
below that distance, so that neither the sum nor the mask itself has to reach further.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from tfq_converters.graph import Graph, Op, Subgraph
from tfq_converters.operators import facts_of, fuses
from tfq_converters.quantized import TensorKey
from tfq_fine.activations.choose_encodings import extent, tensor_range
from tfq_fine.calibration import Range, Statistics
from tfq_fine.planning import Plan

Cuts = dict[TensorKey, Range]
Readers = Mapping[int, list[tuple[int, int]]]


def bounded(graph: Graph, plan: Plan, statistics: Statistics) -> Statistics:
    """Return `statistics` with ranges of masked scores and masks cut to what their SOFTMAX can tell apart.

    A constant that a mask is made of gets a range too, beyond which it saturates.
    """
    main, bits = graph.main, plan.integer_ops
    cut: Cuts = {}
    added: dict[int, float] = {}  # mask -> how far it has to reach, for all sums that read it
    consumers = main.consumers()
    sums: dict[int, tuple[list[int], Range]] = {}  # ADD -> what it writes, moved or not, and the range of that
    for o, op in enumerate(main.ops):
        path = _to_softmax(main, consumers, op.outputs[0]) if facts_of(op.code).selects or op.code == "ADD" else None
        if not path:
            continue
        *tensors, softmax = path
        length = main.tensors[main.ops[softmax].inputs[0]].shape[-1]
        distance = math.log(2.0 ** (bits.get(softmax, 8) + 1) * length)
        if facts_of(op.code).selects:
            cuts = _cut(main, op, statistics, distance)
            cut |= {(0, t): cuts for t in tensors if cuts is not None}
        elif (sum_ := _sum(main, op, statistics, distance)) is not None:
            mask, reach, cuts = sum_
            added[mask] = max(added.get(mask, 0.0), reach)
            sums[o] = (tensors, cuts)
    for mask, reach in added.items():
        own = _mask_cuts(main, consumers, mask, reach, statistics, sums)
        if own is not None:
            readers = [o for o, _ in consumers[mask]]
            cut |= own | {(0, t): sums[o][1] for o in readers for t in sums[o][0]}
    return replace(statistics, ranges={**statistics.ranges, **cut}) if cut else statistics


def has_masks(graph: Graph) -> bool:
    """Return whether something before SOFTMAX may be a mask."""
    consumers = graph.main.consumers()
    may_be = (op for op in graph.main.ops if facts_of(op.code).selects or op.code == "ADD")
    return any(_to_softmax(graph.main, consumers, op.outputs[0]) for op in may_be)


def _to_softmax(subgraph: Subgraph, consumers: Readers, tensor: int) -> list[int] | None:
    """Return the tensors from `tensor` to the only SOFTMAX that reads it, moved or not, and that operator's index."""
    path = [tensor]
    while tensor not in subgraph.outputs and len(consumers.get(tensor, [])) == 1:
        ((index, slot),) = consumers[tensor]
        op = subgraph.ops[index]
        if op.code == "SOFTMAX":
            return [*path, index]
        if not facts_of(op.code).within_input or slot != 0 or len(op.outputs) > 1:
            return None
        tensor = op.outputs[0]
        path.append(tensor)
    return None


def _cut(subgraph: Subgraph, op: Op, statistics: Statistics, distance: float) -> Range | None:
    """Return the range of the scores and `distance` below it; None when `op` is no mask that lies still lower."""
    operands = [op.inputs[slot] for slot in facts_of(op.code).data_slots(len(op.inputs))]
    constants = [t for t in operands if subgraph.tensors[t].is_constant]
    scores = [t for t in operands if not subgraph.tensors[t].is_constant]
    if len(constants) != 1 or (0, scores[0]) not in statistics.ranges:
        return None
    limits = tensor_range(subgraph, scores[0], statistics)
    data = subgraph.tensors[constants[0]].constant
    lowest = limits.low - distance
    return Range(lowest, limits.high) if extent(data).high < lowest else None


def _sum(subgraph: Subgraph, op: Op, statistics: Statistics, distance: float) -> tuple[int, float, Range] | None:
    """Return (mask, how far it has to reach, range of the sum) where `op` adds a mask to scores.

    The mask takes the largest score as far below the smallest one as SOFTMAX asks. Rows that are masked altogether
    come out as if all their scores were equal.
    """
    calibrated = [t for t in op.inputs if subgraph.tensors[t].is_constant or (0, t) in statistics.ranges]
    if len(calibrated) != 2 or fuses(op):
        return None
    mask, scores = sorted(calibrated, key=lambda t: tensor_range(subgraph, t, statistics).low)
    low, high = tensor_range(subgraph, scores, statistics)
    reach = high - low + distance
    mask_range = tensor_range(subgraph, mask, statistics)
    if mask_range.low >= -reach or mask_range.high > high - low or subgraph.tensors[scores].is_constant:
        return None
    return mask, reach, Range(low - distance, high + max(mask_range.high, 0.0))


def _mask_cuts(
    main: Subgraph,
    consumers: Readers,
    mask: int,
    reach: float,
    statistics: Statistics,
    sums: Mapping[int, tuple[list[int], Range]],
) -> Cuts | None:
    """Return the ranges of what a mask is made of, where all saturates right on the way to it; else None."""
    readers = [o for o, _ in consumers.get(mask, [])]
    if not {*readers} <= sums.keys() or mask in main.outputs:
        return None
    if main.tensors[mask].is_constant:
        return {(0, mask): Range(-reach, tensor_range(main, mask, statistics).high)}
    producers = main.producers()
    cuts: Cuts = {}
    current = mask
    while True:
        cuts[0, current] = Range(-reach, tensor_range(main, current, statistics).high)
        op = main.ops[producers[current]] if current in producers else None
        if op is None or facts_of(op.code).selects or op.code == "CAST":  # it writes what it chooses, or in float
            return cuts
        if op.code == "MUL":
            constant = _constant_cut(main, consumers, op, reach, statistics)
            return None if constant is None else cuts | constant
        moved = facts_of(op.code).within_input
        alone = moved and len(consumers[op.inputs[0]]) == 1 and (0, op.inputs[0]) in statistics.ranges
        if not alone:
            return None
        current = op.inputs[0]


def _constant_cut(main: Subgraph, consumers: Readers, op: Op, reach: float, statistics: Statistics) -> Cuts | None:
    """Return (1 - mask) * -1e9 cut to what takes the smallest step of the other side to `reach`.

    The kernels rescale a product by no more than some hundred times.
    """
    constants = [t for t in op.inputs if main.tensors[t].is_constant]
    others = [t for t in op.inputs if not main.tensors[t].is_constant]
    if len(constants) != 1 or len(consumers[constants[0]]) != 1:
        return None
    constant, low = extent(main.tensors[constants[0]].data), tensor_range(main, others[0], statistics).low  # type: ignore[arg-type]
    step = tensor_range(main, others[0], statistics).extent / 255
    if low < 0 or constant.high >= 0 or step <= 0:
        return None
    return {(0, constants[0]): Range(max(constant.low, -reach / step), 0.0)}
