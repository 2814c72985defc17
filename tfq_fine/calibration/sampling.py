"""Inputs to run a file on where there is no data: generated ones."""

import numpy as np

from tfq_converters.graph import AnyArray, Graph
from tfq_converters.runtime import drawn, role_of


def generated_inputs(graph: Graph, seed: int = 0, subgraph: int = 0) -> tuple[AnyArray, ...]:
    """Return values that suit what the graph does with its inputs (`tfq_converters.runtime.input_values`).

    They are one array for each input, of its type and shape, with 1 for sizes that the file leaves open.
    """
    rng = np.random.default_rng(seed)
    entry = graph.subgraphs[subgraph]
    return tuple(drawn(rng, entry.tensors[t], role_of(entry, t)) for t in entry.inputs)


def other_inputs(graph: Graph) -> dict[str, tuple[AnyArray, ...]]:
    """Return generated inputs for each signature on a subgraph other than the main one, in argument order."""
    inputs = {}
    for signature in graph.signatures:
        if signature.subgraph:
            order = graph.subgraphs[signature.subgraph].inputs
            arrays = dict(zip(order, generated_inputs(graph, subgraph=signature.subgraph), strict=True))
            inputs[signature.key] = tuple(arrays[t] for _, t in signature.inputs)
    return inputs
