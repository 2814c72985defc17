"""Inputs to run a file on: a few of the representative samples, or generated ones where there is no data."""

import numpy as np

from tfq_converters.graph import Graph
from tfq_converters.input_values import drawn, role_of

Sample = tuple[np.ndarray, ...]  # inputs of one run, in input order


class KeptSamples:
    """A few of the runs that went well: the first, and others at equal distances over all of them.

    Args:
        least: of this many runs or more, `least` to 2 * `least` - 1 are kept; 1 keeps the first alone.
    """

    def __init__(self, least: int = 1):
        self._least, self._distance = least, 1
        self._kept: list[tuple[int, Sample]] = []

    def wants(self, index: int) -> bool:
        """Whether run `index` would be kept, as far as is known."""
        return index % self._distance == 0 and (self._least > 1 or not self._kept)

    def keep(self, index: int, inputs: Sample) -> None:
        """Remember what a run was fed; `inputs` must not change later."""
        if self.wants(index):
            self._kept.append((index, inputs))
        if len(self._kept) == max(2 * self._least, 2):
            self._distance *= 2
            self._kept = [pair for pair in self._kept if pair[0] % self._distance == 0]

    @property
    def samples(self) -> tuple[Sample, ...]:
        """What was kept, a batch each, in the order of the data."""
        return tuple(inputs for _, inputs in self._kept)


def generated_inputs(graph: Graph, seed: int = 0, subgraph: int = 0) -> tuple[np.ndarray, ...]:
    """Values that suit what the graph does with its inputs (`tfq_converters.input_values`)."""
    rng = np.random.default_rng(seed)
    entry = graph.subgraphs[subgraph]
    return tuple(drawn(rng, entry.tensors[t], role_of(entry, t)) for t in entry.inputs)


def other_inputs(graph: Graph) -> dict[str, tuple[np.ndarray, ...]]:
    """Generated inputs for every signature on a subgraph other than the main one, in the order of its arguments."""
    found = {}
    for signature in graph.signatures:
        if signature.subgraph:
            order = graph.subgraphs[signature.subgraph].inputs
            arrays = dict(zip(order, generated_inputs(graph, subgraph=signature.subgraph), strict=True))
            found[signature.key] = tuple(arrays[t] for _, t in signature.inputs)
    return found
