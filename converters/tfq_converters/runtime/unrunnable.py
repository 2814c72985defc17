"""Operators that no runtime here executes: most custom ones, and TensorFlow's own (SELECT_TF_OPS).

They stay unchanged; everything around them is still run. `custom_ops` finds out which they are.
"""

from dataclasses import replace

import numpy as np

from tfq_converters.graph import AnyArray, Graph, Op, Subgraph
from tfq_converters.runtime.custom_ops import executes
from tfq_converters.runtime.input_values import drawn, role_of
from tfq_converters.runtime.runner import Kernels

RESOURCES = frozenset({"resource", "variant"})  # types that nothing outside of a graph can make


def is_unrunnable(op: Op, subgraph: Subgraph, kernels: Kernels = "default") -> bool:
    """Return whether `op` of `subgraph` is custom, and `kernels` do not execute it."""
    return op.code == "CUSTOM" and not executes(kernels, op, subgraph)


def unrunnable_ops(graph: Graph, kernels: Kernels = "default", s: int = 0) -> list[int]:
    """Return the operators of subgraph `s` that `kernels` do not execute, and those that need their resources.

    An operator that calls a subgraph is executed where all that it calls is.
    """
    main, ops = graph.subgraphs[s], list[int]()
    lost: set[int] = set()  # resources that nothing makes here
    for o, op in enumerate(main.ops):
        if not lost.isdisjoint(op.inputs) or is_unrunnable(op, main, kernels) or _calls_unrunnable(graph, op, kernels):
            ops.append(o)
            lost |= {t for t in op.outputs if main.tensors[t].dtype in RESOURCES}
    return ops


def _calls_unrunnable(graph: Graph, op: Op, kernels: Kernels) -> bool:
    return any(
        is_unrunnable(inner, graph.subgraphs[s], kernels) or _calls_unrunnable(graph, inner, kernels)
        for s in called(op)
        for inner in graph.subgraphs[s].ops
    )


def called(op: Op) -> list[int]:
    """Return the subgraphs that an operator calls."""
    values = {} if op.options is None else op.options.values
    names = [name for name in values if name.lower().endswith("subgraphindex") or name == "subgraph"]
    return [int(values[name]) for name in names]


def unrunnable_names(graph: Graph) -> list[str]:
    """Return the kinds of such operators in the main subgraph and in what it calls, sorted."""
    names: set[str] = set()
    ahead = [(graph.main, graph.main.ops[o]) for o in unrunnable_ops(graph)]
    while ahead:
        subgraph, op = ahead.pop()
        if is_unrunnable(op, subgraph):
            names.add(op.custom_code)
        ahead += [(graph.subgraphs[s], inner) for s in called(op) for inner in graph.subgraphs[s].ops]
    return sorted(names)


def depends_on_unrunnable(graph: Graph) -> set[int]:
    """Return the tensors of the main subgraph whose values cannot be known here."""
    tensors: set[int] = set()
    gone = set(unrunnable_ops(graph))
    for o, op in enumerate(graph.main.ops):
        if o in gone or not tensors.isdisjoint(op.inputs):
            tensors |= set(op.outputs)
    return tensors


def runnable_part(graph: Graph, kernels: Kernels = "default") -> Graph:
    """Return `graph` without operators that `kernels` do not execute; their results become further inputs."""
    main = graph.main
    gone = unrunnable_ops(graph, kernels)
    if not gone:
        return graph
    missing = _missing(graph, gone)
    ops = tuple(op for o, op in enumerate(main.ops) if o not in gone)
    cut = replace(main, ops=ops, inputs=(*main.inputs, *missing))
    return replace(graph, subgraphs=(cut, *graph.subgraphs[1:]), signatures=())


def known_ops(graph: Graph) -> list[int]:
    """Return the operators of the main subgraph that are executed here on values that are known here."""
    gone, unknown = set(unrunnable_ops(graph)), depends_on_unrunnable(graph)
    return [
        o
        for o, op in enumerate(graph.main.ops)
        if o not in gone and unknown.isdisjoint(op.outputs) and unknown.isdisjoint(op.inputs)
    ]


def known_part(graph: Graph) -> Graph:
    """Return `graph` without such operators and all that depends on them; its outputs are those that remain."""
    unknown = depends_on_unrunnable(graph)
    if not unknown and not unrunnable_ops(graph):
        return graph
    main = graph.main
    ops = tuple(main.ops[o] for o in known_ops(graph))
    outputs = tuple(t for t in main.outputs if t not in unknown)
    return replace(graph, subgraphs=(replace(main, ops=ops, outputs=outputs), *graph.subgraphs[1:]), signatures=())


def stand_ins(graph: Graph, kernels: Kernels = "default", seed: int = 0) -> list[AnyArray]:
    """Return values in place of what such operators compute, for the inputs that `runnable_part` adds."""
    rng, main = np.random.default_rng(seed), graph.main
    missing = _missing(graph, unrunnable_ops(graph, kernels))
    return [drawn(rng, main.tensors[t], role_of(main, t)) for t in missing]


def _missing(graph: Graph, gone: list[int]) -> list[int]:
    """Return the values that operators which are left out would have computed."""
    main = graph.main
    return [t for o in gone for t in main.ops[o].outputs if main.tensors[t].dtype not in RESOURCES]
