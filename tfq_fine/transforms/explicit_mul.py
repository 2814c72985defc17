"""Channels divided by an operator of their own, where no constant can be scaled.

After an activation function such as GELU no constant divides the channels: a MUL does, and the weights that read its
result are multiplied: W x = (W diag(s)) (diag(s)^-1 x).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tfq_converters.graph import Float64Array, Graph, Op, Options
from tfq_converters.operators import data_of, facts_of
from tfq_fine.transforms.channel_affine import Leaves, leaves_of
from tfq_fine.transforms.editing import Edit, Rewritten
from tfq_fine.transforms.fold_into_readers import fold_into_reader
from tfq_fine.transforms.smoothing import SmoothingPath, smoothing_paths, source_of


def unscaled_paths(graph: Graph) -> list[SmoothingPath]:
    """Return a path without makers for each activation of linear operators whose channels no constant scales."""
    main = graph.main
    scaled = {leaf.op for path in smoothing_paths(graph).values() if path.makers for leaf in path.leaves}
    linear = [o for o, op in enumerate(main.ops) if facts_of(op.code).weight is not None and o not in scaled]
    paths = []
    for t in dict.fromkeys(source_of(main, data_of(main.ops[o])) for o in linear):
        if t in main.producers() and main.tensors[t].dynamic_shape[-1:] not in ((), (-1,)):
            leaves = leaves_of(main, t)
            if isinstance(leaves, Leaves) and not scaled.intersection(leaf.op for leaf in leaves.leaves):
                paths.append(SmoothingPath(t, main.tensors[t].shape[-1], (), (), leaves.leaves, ()))
    return paths


def with_products(graph: Graph, changes: Sequence[tuple[SmoothingPath, Float64Array]]) -> Rewritten:
    """Return the graph with a MUL by 1 / s [C] after each activation, and the weights that read it multiplied by s.

    The origin of a MUL is the operator that makes the activation.
    """
    edit, factors = Edit(graph), dict[int, int]()
    for path, s in changes:
        for leaf in path.leaves:
            fold_into_reader(edit, graph.main, leaf, s, np.zeros_like(s))
        name = graph.main.tensors[path.tensor].name
        factors[path.tensor] = edit.constant(f"{name}/factors", (1 / s).astype(np.float32))
    edited = edit.rewritten().graph
    results = {t: edit.new(replace(edit.tensors[t], name=f"{edit.tensors[t].name}/scaled")) for t in factors}
    ops: list[Op] = []
    origin: list[int] = []
    for o, op in enumerate(edited.main.ops):
        ops.append(replace(op, inputs=tuple(_read(results, t) for t in op.inputs)))
        origin.append(o)
        for t in op.outputs:
            if t in factors:
                options = Options("MulOptions", {"fusedActivationFunction": 0})
                ops.append(Op("MUL", (t, factors[t]), (results[t],), options, layer=op.layer))
                origin.append(o)
    main = replace(edited.main, tensors=tuple(edit.tensors), ops=tuple(ops))
    return Rewritten(replace(graph, subgraphs=(main, *graph.subgraphs[1:])), tuple(origin))


def _read(results: Mapping[int, int], tensor: int) -> int:
    return results.get(tensor, tensor)
