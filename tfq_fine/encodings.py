"""The integer encodings of activations: ranges from statistics, under the constraints of the integer kernels."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tfq_converters.graph import ABSENT, Graph, Op, Subgraph
from tfq_converters.op_table import OPS, OpRow
from tfq_converters.quantized import ActivationEncoding, OpKey
from tfq_fine import affine
from tfq_fine.plan import Plan
from tfq_fine.statistics import Range, Statistics

Node = tuple[int, int]  # (tensor, activation bits)


@dataclass(frozen=True)
class Encodings:
    """What every integer operator of the main subgraph reads and writes, by slot; constants included."""

    inputs: Mapping[OpKey, Mapping[int, ActivationEncoding]]
    outputs: Mapping[OpKey, Mapping[int, ActivationEncoding]]
    tensors: Mapping[Node, ActivationEncoding]


def data_slots(op: Op, subgraph: Subgraph) -> tuple[int, ...]:
    """The input slots of `op` that hold activations (or float constants in the place of one)."""
    row = OPS[op.code]
    slots = range(len(op.inputs)) if row.data is None else row.data
    return tuple(
        slot
        for slot in slots
        if slot < len(op.inputs) and op.inputs[slot] >= 0 and subgraph.tensors[op.inputs[slot]].dtype == "float32"
    )


def float_outputs(op: Op, subgraph: Subgraph) -> tuple[int, ...]:
    """The output slots of `op` that hold activations."""
    return tuple(slot for slot, t in enumerate(op.outputs) if subgraph.tensors[t].dtype == "float32")


def integer_ops(plan: Plan) -> dict[int, int]:
    """Operators of the main subgraph that compute in integers -> activation bits."""
    return {
        o: decision.spec.activations.bits
        for (s, o), decision in plan.items()
        if s == 0 and decision.spec is not None and decision.spec.activations is not None
    }


def groups(graph: Graph, ops: Mapping[int, int]) -> dict[Node, Node]:
    """Node -> representative of the nodes that share one scale with it."""
    parent: dict[Node, Node] = {}

    def find(node: Node) -> Node:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    for o, bits in ops.items():
        op = graph.main.ops[o]
        row = OPS[op.code]
        nodes = [(op.inputs[slot], bits) for slot in data_slots(op, graph.main)]
        results = [(op.outputs[slot], bits) for slot in float_outputs(op, graph.main)]
        for node in nodes + results:
            find(node)
        if row.scales == "same":
            shared = _sharing(op, row, nodes, bits) + results
            for node in shared[1:]:
                parent[find(node)] = find(shared[0])
    return {node: find(node) for node in list(parent)}


def _sharing(op: Op, row: OpRow, nodes: list[Node], bits: int) -> list[Node]:
    return nodes if row.same is None else [(op.inputs[slot], bits) for slot in row.same if slot < len(op.inputs)]


def tensor_range(subgraph: Subgraph, tensor: int, statistics: Statistics) -> Range:
    """The calibrated range of an activation, or the extent of a constant."""
    data = subgraph.tensors[tensor].data
    if data is not None:
        return Range(float(data.min()), float(data.max())) if data.size else Range(0.0, 0.0)
    return statistics.ranges[0, tensor]


def group_ranges(members: Mapping[Node, Node], ranges: Mapping[Node, Range]) -> dict[Node, Range]:
    """Representative -> the union of the ranges of its group."""
    found: dict[Node, Range] = {}
    for node, root in members.items():
        found[root] = found[root].union(ranges[node]) if root in found else ranges[node]
    return found


def fixed_output(op: Op, bits: int) -> ActivationEncoding | None:
    """The encoding that the kernel of `op` writes whatever the range, if it has one."""
    row = OPS[op.code]
    if row.scales != "fixed":
        return None
    scale, zero_point = row.fixed[f"int{bits}"]
    return ActivationEncoding("int8" if bits == 8 else "int16", float(np.float32(scale)), zero_point)


def encodings(graph: Graph, plan: Plan, statistics: Statistics) -> Encodings:
    """Choose the encoding of everything that an integer operator reads or writes."""
    ops = integer_ops(plan)
    members = groups(graph, ops)
    ranges = {node: tensor_range(graph.main, node[0], statistics) for node in members}
    widest = group_ranges(members, ranges)
    centred = {members[graph.main.ops[o].inputs[slot], bits] for o, bits in ops.items() for slot in _centred(graph, o)}
    by_root = {
        root: affine.activation_encoding(*(found.centred() if root in centred else found), root[1])
        for root, found in widest.items()
    }
    own: dict[Node, ActivationEncoding] = {}  # what the producer writes, where its kernel fixes it
    for o, bits in ops.items():
        fixed = fixed_output(graph.main.ops[o], bits)
        for t in graph.main.ops[o].outputs if fixed else ():
            own[t, bits] = fixed  # type: ignore[assignment]
    by_root |= _adopted(own, members, ranges, widest)
    tensors = {node: by_root[root] for node, root in members.items()}
    inputs, outputs = {}, {}
    for o, bits in ops.items():
        op = graph.main.ops[o]
        same = OPS[op.code].scales == "same"
        slots = data_slots(op, graph.main)
        inputs[0, o] = {
            slot: tensors[op.inputs[slot], bits]
            if same
            else own.get((op.inputs[slot], bits), tensors[op.inputs[slot], bits])
            for slot in slots
        }
        outputs[0, o] = {
            slot: own.get((op.outputs[slot], bits), tensors[op.outputs[slot], bits])
            for slot in float_outputs(op, graph.main)
        }
    return Encodings(inputs, outputs, tensors | own)


def _centred(graph: Graph, o: int) -> tuple[int, ...]:
    """Input slots of operator `o` that want zero point 0.

    The fast kernels take no other for the right side of a product of activations; the others are 17 times slower.
    """
    op = graph.main.ops[o]
    right = op.inputs[1] if op.code == "BATCH_MATMUL" else ABSENT
    return (1,) if right != ABSENT and not graph.main.tensors[right].is_constant else ()


def _adopted(
    own: Mapping[Node, ActivationEncoding],
    members: Mapping[Node, Node],
    ranges: Mapping[Node, Range],
    widest: Mapping[Node, Range],
) -> dict[Node, ActivationEncoding]:
    """Groups that take the fixed encoding of a member, so that nothing is requantized: it is the only fixed one, that
    member has the widest range of the group, and the encoding covers it."""
    found: dict[Node, list[Node]] = {}
    for node in own:
        found.setdefault(members[node], []).append(node)
    adopted = {}
    for root, nodes in found.items():
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
    """Whether `wanted` lies within the values of `encoding`, up to one step."""
    limits = np.iinfo(encoding.dtype)
    low, high = (encoding.scale * (code - encoding.zero_point) for code in (limits.min, limits.max))
    return wanted.low >= low - encoding.scale and wanted.high <= high + encoding.scale
