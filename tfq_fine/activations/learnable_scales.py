"""The groups of tensors whose one scale may be learned together with the weights of a stretch of operators."""

from collections.abc import Mapping

from tfq_converters.graph import Graph
from tfq_converters.operators import OPS, facts_of
from tfq_fine.activations.choose_encodings import Node, groups, tied_slots
from tfq_fine.activations.plan_encodings import EncodedPlan


def learnable_groups(graph: Graph, placed: EncodedPlan, first: int, stop: int) -> dict[Node, tuple[int, ...]]:
    """Return representative -> the tensors that operators `first` to `stop` write in its scale, of what they may scale.

    All tensors of such a group are written there, or are values of one that is. Excluded are encodings that kernels
    fix, those of inputs of the model, of constants that share the scale, of what kernels read in a narrow set of scales
    or divide by, and of what passes from one step to the next.

    Args:
        graph: the float graph.
        placed: the plan with the encodings of its activations.
        first: the index of the first operator of the main subgraph.
        stop: the index after the last one.
    """
    if placed.held:
        return {}
    main, ops = graph.main, placed.plan.integer_ops
    members = groups(graph, ops)
    maker = {t: o for o, op in enumerate(main.ops) for t in op.outputs}
    refused = {members[t, bits] for t, bits in members if not _is_written(graph, maker.get(t), first, stop)}
    for o, bits in ops.items():
        op = main.ops[o]
        row, facts = OPS[op.code], facts_of(op.code)
        nodes = [(t, bits) for t in op.outputs] if row.scales == "fixed" or facts.recurrent else []
        if row.int8_scale is not None or facts.positive is not None or facts.recurrent:
            nodes += [(t, bits) for t in op.inputs]
        if any(main.tensors[op.inputs[slot]].is_constant for slot in tied_slots(op, main)):
            nodes += [(t, bits) for t in op.outputs]
        refused |= {members[node] for node in nodes if node in members}
    return _by_root({node: root for node, root in members.items() if root not in refused}, maker, first, stop)


def _is_written(graph: Graph, o: int | None, first: int, stop: int) -> bool:
    """Return whether operator `o` is one of the stretch, or one after it that makes no new values."""
    if o is None:
        return False
    return first <= o < stop or (o >= stop and facts_of(graph.main.ops[o].code).within_input)


def _by_root(
    members: Mapping[Node, Node], maker: Mapping[int, int], first: int, stop: int
) -> dict[Node, tuple[int, ...]]:
    by_root: dict[Node, tuple[int, ...]] = {}
    for node, root in members.items():
        if first <= maker[node[0]] < stop:
            by_root[root] = (*by_root.get(root, ()), node[0])
    return by_root
