"""The integer encodings of activations: ranges from statistics, under the constraints of the integer kernels."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tfq_converters.graph import FloatArray, Graph, Op, Subgraph
from tfq_converters.operators import OPS, facts_of
from tfq_converters.quantized import ActivationEncoding, OpKey
from tfq_fine.calibration import Range, Statistics
from tfq_fine.numerics import affine
from tfq_fine.planning import Plan

Node = tuple[int, int]  # (tensor, activation bits)


@dataclass(frozen=True)
class Encodings:
    """The encodings that every integer operator of the main subgraph reads and writes, by slot; constants included."""

    inputs: Mapping[OpKey, Mapping[int, ActivationEncoding]]
    outputs: Mapping[OpKey, Mapping[int, ActivationEncoding]]
    tensors: Mapping[Node, ActivationEncoding]


def data_slots(op: Op, subgraph: Subgraph) -> tuple[int, ...]:
    """Return the input slots of `op` that hold activations (or float constants in the place of one)."""
    return tuple(
        slot
        for slot in facts_of(op.code).data_slots(len(op.inputs))
        if op.inputs[slot] >= 0 and subgraph.tensors[op.inputs[slot]].dtype == "float32"
    )


def float_outputs(op: Op, subgraph: Subgraph) -> tuple[int, ...]:
    """Return the output slots of `op` that hold activations."""
    return tuple(slot for slot, t in enumerate(op.outputs) if subgraph.tensors[t].dtype == "float32")


def groups(graph: Graph, ops: Mapping[int, int]) -> Mapping[Node, Node]:
    """Return node -> representative of the nodes that share one scale with it.

    Constants are no nodes: an operator may hold one in another encoding than the next operator that reads it.

    Args:
        graph: the float graph.
        ops: its operators in integers -> bits of their activations.
    """
    return graph.derived.once(lambda: _groups(graph, ops), key=("groups", *ops.items()))


def _groups(graph: Graph, ops: Mapping[int, int]) -> dict[Node, Node]:
    parent: dict[Node, Node] = {}

    def find(node: Node) -> Node:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    for o, bits in ops.items():
        op = graph.main.ops[o]
        results = [(op.outputs[slot], bits) for slot in float_outputs(op, graph.main)]
        for slot in data_slots(op, graph.main):
            if not graph.main.tensors[op.inputs[slot]].is_constant:
                find((op.inputs[slot], bits))
        for node in results:
            find(node)
        shared = tied_nodes(graph, o, bits)
        for node in shared[1:]:
            parent[find(node)] = find(shared[0])
    return {node: find(node) for node in list(parent)}


def tied_slots(op: Op, subgraph: Subgraph) -> tuple[int, ...]:
    """Return the data slots of `op` that share one scale with its outputs."""
    row = OPS[op.code]
    slots = data_slots(op, subgraph) if row.scales == "same" else ()
    return slots if row.same is None else tuple(slot for slot in slots if slot in row.same)


def tied_nodes(graph: Graph, o: int, bits: int) -> list[Node]:
    """Return the nodes that operator `o` ties to one scale; none when its kernel leaves every tensor its own."""
    op = graph.main.ops[o]
    if OPS[op.code].scales != "same":
        return []
    read = [op.inputs[slot] for slot in tied_slots(op, graph.main)]
    written = [op.outputs[slot] for slot in float_outputs(op, graph.main)]
    return [(t, bits) for t in read if not graph.main.tensors[t].is_constant] + [(t, bits) for t in written]


def tensor_range(subgraph: Subgraph, tensor: int, statistics: Statistics) -> Range:
    """Return the calibrated range of an activation, or the extent of a constant."""
    data = subgraph.tensors[tensor].data
    return statistics.ranges[0, tensor] if data is None else extent(data)


def keeps_positive(op: Op, subgraph: Subgraph) -> bool:
    """Return whether `op` is a MAXIMUM with a positive constant, as before logarithms and divisions."""
    constants = [subgraph.tensors[t].data for t in op.inputs if t >= 0 and subgraph.tensors[t].dtype == "float32"]
    return op.code == "MAXIMUM" and any(data is not None and (data > 0).all() for data in constants)


def extent(data: FloatArray) -> Range:
    """Return the smallest and the largest value of a constant of any shape."""
    return Range(float(data.min()), float(data.max())) if data.size else Range(0.0, 0.0)


def group_ranges(
    graph: Graph, ops: Mapping[int, int], members: Mapping[Node, Node], ranges: Mapping[Node, Range]
) -> dict[Node, Range]:
    """Return representative -> union of the ranges of its group and of the constants that share its scale.

    A constant that is chosen shows in the result. One that lies beyond all results, such as a limit that is never
    reached, may saturate: it limits as before.
    """
    union: dict[Node, Range] = {}
    for node, root in members.items():
        union[root] = union[root].union(ranges[node]) if root in union else ranges[node]
    for o, bits in ops.items():
        op, shared = graph.main.ops[o], tied_nodes(graph, o, bits)
        for slot in tied_slots(op, graph.main) if shared and not facts_of(op.code).chooses else ():
            data = graph.main.tensors[op.inputs[slot]].data
            if data is not None:
                root = members[shared[0]]
                union[root] = union[root].union(extent(data))
    return union


def without_cut_off(graph: Graph, ops: Mapping[int, int], ranges: Mapping[Node, Range]) -> dict[Node, Range]:
    """Return the ranges cut to what a MINIMUM or MAXIMUM leaves, where nothing else reads the tensor.

    Inputs keep the range of the data, and outputs theirs, since they are seen from outside.
    """
    cut, consumers = dict(ranges), graph.main.consumers()
    visited = {*graph.main.inputs, *graph.main.outputs}
    for o in sorted(ops, reverse=True):  # a limit after a limit first
        op = graph.main.ops[o]
        for t in op.inputs if facts_of(op.code).limits else ():
            node = (t, ops[o])
            if node in cut and len(consumers[t]) == 1 and t not in visited:
                cut[node] = cut[op.outputs[0], ops[o]]
    return cut


def fixed_output(op: Op, bits: int) -> ActivationEncoding | None:
    """Return the encoding that the kernel of `op` writes whatever the range, if it has one."""
    row = OPS[op.code]
    if row.scales != "fixed":
        return None
    scale, zero_point = row.fixed[f"int{bits}"]
    return ActivationEncoding("int8" if bits == 8 else "int16", float(np.float32(scale)), zero_point)


def encodings(
    graph: Graph, plan: Plan, statistics: Statistics, learned: Mapping[Node, ActivationEncoding] | None = None
) -> Encodings:
    """Choose the encoding of everything that an integer operator reads or writes.

    Args:
        graph: the float graph.
        plan: the decisions on its operators.
        statistics: the ranges of its activations.
        learned: representative of `groups` -> the encoding of its group that takes the place of that from ranges.
    """
    ops = plan.integer_ops
    members = groups(graph, ops)
    ranges = without_cut_off(graph, ops, {node: tensor_range(graph.main, node[0], statistics) for node in members})
    widest = group_ranges(graph, ops, members, ranges)
    centred = {members[graph.main.ops[o].inputs[slot], bits] for o, bits in ops.items() for slot in _centred(graph, o)}
    by_root = {
        root: affine.activation_encoding(*(limits.centred() if root in centred else limits), root[1])
        for root, limits in widest.items()
    }
    own: dict[Node, ActivationEncoding] = {}  # what the producer writes, where its kernel fixes it
    for o, bits in ops.items():
        fixed = fixed_output(graph.main.ops[o], bits)
        for t in graph.main.ops[o].outputs if fixed else ():
            own[t, bits] = fixed  # type: ignore[assignment]
    by_root |= _adopted(own, members, ranges, widest) | dict(learned or {})
    tensors = {node: by_root[root] for node, root in members.items()}
    inputs, outputs = {}, {}
    for o, bits in ops.items():
        op, shared = graph.main.ops[o], tied_nodes(graph, o, bits)
        tied = tied_slots(op, graph.main)
        inputs[0, o] = {
            slot: tensors[shared[0]]
            if shared and slot in tied
            else _free(graph, op.inputs[slot], bits, own, tensors, statistics)
            for slot in data_slots(op, graph.main)
        }
        outputs[0, o] = {
            slot: own.get((op.outputs[slot], bits), tensors[op.outputs[slot], bits])
            for slot in float_outputs(op, graph.main)
        }
    return Encodings(inputs, outputs, tensors | own)


def _free(
    graph: Graph,
    tensor: int,
    bits: int,
    own: Mapping[Node, ActivationEncoding],
    tensors: Mapping[Node, ActivationEncoding],
    statistics: Statistics,
) -> ActivationEncoding:
    """Return the encoding of an input that no kernel ties to another tensor; constants have a range where it is cut."""
    data = graph.main.tensors[tensor].data
    if data is not None:
        return affine.activation_encoding(*statistics.ranges.get((0, tensor), extent(data)), bits)
    return own.get((tensor, bits), tensors[tensor, bits])


def _centred(graph: Graph, o: int) -> tuple[int, ...]:
    """Return the input slots of operator `o` that need zero point 0.

    The fast kernels take no other for the right side of a product of activations; the others are 17 times slower. Some
    kernels take no other at all.
    """
    op = graph.main.ops[o]
    slots: tuple[int, ...] = (1,) if op.code == "BATCH_MATMUL" else ()
    if OPS[op.code].int8_zero_point == 0:
        slots = tied_slots(op, graph.main)
    return tuple(slot for slot in slots if not graph.main.tensors[op.inputs[slot]].is_constant)


def _adopted(
    own: Mapping[Node, ActivationEncoding],
    members: Mapping[Node, Node],
    ranges: Mapping[Node, Range],
    widest: Mapping[Node, Range],
) -> dict[Node, ActivationEncoding]:
    """Return groups that take the fixed encoding of a member, so that nothing is requantized.

    It is the only fixed one, that member has the widest range of the group, and the encoding covers it.
    """
    fixed_members: dict[Node, list[Node]] = {}
    for node in own:
        fixed_members.setdefault(members[node], []).append(node)
    adopted = {}
    for root, nodes in fixed_members.items():
        encoding = own[nodes[0]]
        alone = len({own[node] for node in nodes}) == 1
        if (
            alone
            and _covers(encoding, widest[root])
            and any(ranges[node].extent >= widest[root].extent for node in nodes)
        ):
            adopted[root] = encoding
    return adopted


def _covers(encoding: ActivationEncoding, wanted: Range) -> bool:
    """Return whether `wanted` lies within the values of `encoding`, up to one step."""
    limits = np.iinfo(encoding.dtype)
    low, high = (encoding.scale * (code - encoding.zero_point) for code in (limits.min, limits.max))
    return wanted.low >= low - encoding.scale and wanted.high <= high + encoding.scale
