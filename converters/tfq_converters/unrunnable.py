"""Operators that no runtime here executes: custom ones, and TensorFlow's own (SELECT_TF_OPS, which take a delegate that
neither LiteRT's nor TensorFlow's Python package holds). They stay as they are; everything around them is still run.
"""

from dataclasses import replace

import numpy as np

from tfq_converters.graph import Graph, Op

REGISTERED = frozenset({"TFLite_Detection_PostProcess", "Mfcc", "AudioSpectrogram", "NumericVerify"})


def is_unrunnable(op: Op) -> bool:
    """Whether `op` is custom, and not one of the custom operators that the runtimes bring along."""
    return op.code == "CUSTOM" and op.custom_code not in REGISTERED


def unrunnable_names(graph: Graph) -> list[str]:
    """The kinds of such operators in the main subgraph, sorted."""
    return sorted({op.custom_code for op in graph.main.ops if is_unrunnable(op)})


def depends_on_unrunnable(graph: Graph) -> set[int]:
    """Tensors of the main subgraph whose values cannot be known here."""
    found: set[int] = set()
    for op in graph.main.ops:
        if is_unrunnable(op) or not found.isdisjoint(op.inputs):
            found |= set(op.outputs)
    return found


def runnable_part(graph: Graph) -> Graph:
    """`graph` without such operators; what they compute becomes further inputs of the main subgraph."""
    main = graph.main
    missing = tuple(t for op in main.ops if is_unrunnable(op) for t in op.outputs)
    if not missing:
        return graph
    ops = tuple(op for op in main.ops if not is_unrunnable(op))
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


def stand_ins(graph: Graph, seed: int = 0) -> list[np.ndarray]:
    """Values in place of what such operators compute, for the inputs that `runnable_part` adds; strings are empty."""
    rng = np.random.default_rng(seed)
    tensors = [graph.main.tensors[t] for op in graph.main.ops if is_unrunnable(op) for t in op.outputs]
    return [
        np.full(tensor.shape, b"", np.bytes_)
        if tensor.dtype == "string"
        else rng.normal(size=tensor.shape).astype(tensor.dtype)
        for tensor in tensors
    ]
