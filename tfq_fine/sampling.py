"""Inputs to run a file on where there is no data: generated ones."""

import numpy as np

from tfq_converters.graph import Graph


def generated_inputs(graph: Graph, seed: int = 0, subgraph: int = 0) -> tuple[np.ndarray, ...]:
    """Normal values for float inputs; for integers, valid rows of every table in the graph; empty strings."""
    rng = np.random.default_rng(seed)
    entry = graph.subgraphs[subgraph]
    tables = [entry.tensors[op.inputs[0]] for op in entry.ops if op.code == "GATHER"]
    highest = min((table.shape[0] for table in tables if table.is_constant and table.shape), default=2)
    found = []
    for t in entry.inputs:
        tensor = entry.tensors[t]
        if tensor.dtype.startswith("float"):
            found.append(rng.normal(size=tensor.shape).astype(tensor.dtype))
        elif tensor.dtype == "bool":
            found.append(np.ones(tensor.shape, bool))
        elif tensor.dtype == "string":
            found.append(np.full(tensor.shape, b"", np.bytes_))
        else:
            found.append(rng.integers(0, max(highest, 1), tensor.shape).astype(tensor.dtype))
    return tuple(found)


def other_inputs(graph: Graph) -> dict[str, tuple[np.ndarray, ...]]:
    """Generated inputs for every signature on a subgraph other than the main one, in the order of its arguments."""
    found = {}
    for signature in graph.signatures:
        if signature.subgraph:
            order = graph.subgraphs[signature.subgraph].inputs
            arrays = dict(zip(order, generated_inputs(graph, subgraph=signature.subgraph), strict=True))
            found[signature.key] = tuple(arrays[t] for _, t in signature.inputs)
    return found
