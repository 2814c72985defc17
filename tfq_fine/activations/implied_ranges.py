"""Ranges that follow from those of other tensors, for a model that brings ranges of its own and no data.

A kernel that writes one fixed scale says what its output is. One that moves values, or chooses among them, writes
nothing beyond what it reads, and needs no more of it than it writes.
"""

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np

from tfq_converters.graph import Graph
from tfq_converters.operators import facts_of, lstm
from tfq_fine.activations.choose_encodings import data_slots, fixed_output, float_outputs, tied_nodes
from tfq_fine.calibration import Range


def with_implied(graph: Graph, ops: Mapping[int, int], ranges: Mapping[int, Range]) -> dict[int, Range]:
    """Return the ranges of tensors, with those of other tensors that follow from them.

    Args:
        graph: the float graph.
        ops: its integer operators, and the bits of their activations.
        ranges: what is known, by tensor.
    """
    result = dict(ranges)
    while True:
        count = len(result)
        for o, bits in ops.items():
            for t, implied in _of_operator(graph, o, bits, result).items():
                result.setdefault(t, implied)
        if len(result) == count:
            return result


def without_range(graph: Graph, ops: Mapping[int, int], ranges: Mapping[int, Range]) -> list[int]:
    """Return activations of integer operators without a range, in graph order; a fused LSTM's output always."""
    main = graph.main
    needed: dict[int, None] = {}
    for o in ops:
        op = main.ops[o]
        read = [op.inputs[slot] for slot in data_slots(op, main)]
        written = [op.outputs[slot] for slot in float_outputs(op, main)]
        needed |= {t: None for t in (*read, *written) if not main.tensors[t].is_constant}
    stateful = {
        t for o in ops if main.ops[o].code == lstm.CODE for t in main.ops[o].outputs
    }  # its states are seen only
    return [t for t in needed if t not in ranges or t in stateful]


def _of_operator(graph: Graph, o: int, bits: int, known: Mapping[int, Range]) -> dict[int, Range]:
    """Return the ranges that operator `o` implies for the tensors around it."""
    main = graph.main
    op = main.ops[o]
    fixed = fixed_output(op, bits)
    if fixed is not None:
        limits = np.iinfo(fixed.dtype)
        low, high = (fixed.scale * (int(code) - fixed.zero_point) for code in (limits.min, limits.max))
        return dict.fromkeys(op.outputs, Range(low, high))
    clamps = facts_of(op.code).clamps
    if clamps is not None and op.inputs[0] in known:
        low, high = (min(max(limit, clamps[0]), clamps[1]) for limit in known[op.inputs[0]])
        return {op.outputs[0]: Range(low, high)}
    tied = [t for t, _ in tied_nodes(graph, o, bits)]
    read, written = [t for t in tied if t not in op.outputs], [t for t in tied if t in op.outputs]
    return _of_all(read, written, known) | _of_all(written, read, known)


def _of_all(tensors: Sequence[int], others: Sequence[int], known: Mapping[int, Range]) -> dict[int, Range]:
    """Return the range that holds `tensors`, for each of the `others`; none where one is not known."""
    if not tensors or any(t not in known for t in tensors):
        return {}
    return dict.fromkeys(others, reduce(Range.union, (known[t] for t in tensors)))
