"""Operators that no runtime here executes: most custom ones, and TensorFlow's own (SELECT_TF_OPS). They stay as they
are; everything around them is still run. `custom_ops` finds out which they are.
"""

from dataclasses import replace

import numpy as np

from tfq_converters.custom_ops import executes
from tfq_converters.graph import Graph, Op, Subgraph
from tfq_converters.input_values import drawn, role_of
from tfq_converters.runtime import Kernels


def is_unrunnable(op: Op, subgraph: Subgraph, kernels: Kernels = "default") -> bool:
    """Whether `op` of `subgraph` is custom, and `kernels` do not execute it."""
    return op.code == "CUSTOM" and not executes(kernels, op, subgraph)


def unrunnable_ops(graph: Graph, kernels: Kernels = "default") -> list[int]:
    """The operators of the main subgraph that `kernels` do not execute."""
    return [o for o, op in enumerate(graph.main.ops) if is_unrunnable(op, graph.main, kernels)]


def unrunnable_names(graph: Graph) -> list[str]:
    """The kinds of such operators in the main subgraph, sorted."""
    return sorted({graph.main.ops[o].custom_code for o in unrunnable_ops(graph)})


def depends_on_unrunnable(graph: Graph) -> set[int]:
    """Tensors of the main subgraph whose values cannot be known here."""
    found: set[int] = set()
    for op in graph.main.ops:
        if not found.isdisjoint(op.inputs) or is_unrunnable(op, graph.main):
            found |= set(op.outputs)
    return found


def runnable_part(graph: Graph, kernels: Kernels = "default") -> Graph:
    """`graph` without operators that `kernels` do not execute; what those compute becomes further inputs."""
    main = graph.main
    gone = unrunnable_ops(graph, kernels)
    if not gone:
        return graph
    missing = tuple(t for o in gone for t in main.ops[o].outputs)
    ops = tuple(op for o, op in enumerate(main.ops) if o not in gone)
    cut = replace(main, ops=ops, inputs=(*main.inputs, *missing))
    return replace(graph, subgraphs=(cut, *graph.subgraphs[1:]), signatures=())


def known_part(graph: Graph) -> Graph:
    """`graph` without such operators and all that depends on them; its outputs are those that remain."""
    unknown = depends_on_unrunnable(graph)
    if not unknown:
        return graph
    main = graph.main
    ops = tuple(op for op in main.ops if unknown.isdisjoint(op.outputs) and unknown.isdisjoint(op.inputs))
    outputs = tuple(t for t in main.outputs if t not in unknown)
    return replace(graph, subgraphs=(replace(main, ops=ops, outputs=outputs), *graph.subgraphs[1:]), signatures=())


def stand_ins(graph: Graph, kernels: Kernels = "default", seed: int = 0) -> list[np.ndarray]:
    """Values in place of what such operators compute, for the inputs that `runnable_part` adds; strings are empty."""
    rng, main = np.random.default_rng(seed), graph.main
    missing = [t for o in unrunnable_ops(graph, kernels) for t in main.ops[o].outputs]
    return [drawn(rng, main.tensors[t], role_of(main, t)) for t in missing]
