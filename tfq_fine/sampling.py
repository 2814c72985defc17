"""Inputs for the run check: the first representative sample, or generated ones where there is no data."""

from collections.abc import Iterable, Iterator

import numpy as np

from tfq_converters.graph import Graph
from tfq_converters.weights import WEIGHTS
from tfq_fine.data import Batch


class FirstSample:
    """Passes batches through and remembers the first sample of the first one."""

    def __init__(self, batches: Iterable[Batch]):
        self._batches = batches
        self.sample: tuple[np.ndarray, ...] | None = None

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._batches:
            if self.sample is None:
                self.sample = batch.inputs
            yield batch


def generated_inputs(graph: Graph, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Normal values for float inputs; for integer inputs, values that are valid rows of every table in the graph."""
    rng = np.random.default_rng(seed)
    main = graph.main
    rows = [
        main.tensors[op.inputs[0]].shape[0]
        for op in main.ops
        if op.code == "GATHER" and _has_table(op.inputs[0], graph)
    ]
    highest = min(rows, default=2)
    found = []
    for t in main.inputs:
        tensor = main.tensors[t]
        if tensor.dtype == "float32":
            found.append(rng.normal(size=tensor.shape).astype(np.float32))
        elif tensor.dtype == "bool":
            found.append(np.ones(tensor.shape, bool))
        else:
            found.append(rng.integers(0, max(highest, 1), tensor.shape).astype(tensor.dtype))
    return tuple(found)


def _has_table(tensor: int, graph: Graph) -> bool:
    return graph.main.tensors[tensor].is_constant and "GATHER" in WEIGHTS
