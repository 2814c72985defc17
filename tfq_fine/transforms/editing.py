"""Changes of the main subgraph: constants replaced, operators taken out; then a graph again."""

from dataclasses import dataclass, replace

import numpy as np

from tfq_converters.graph import ABSENT, AnyArray, Float32Array, FloatArray, Graph
from tfq_converters.graph_edit import GraphBuilder
from tfq_converters.operators import bias_of, bias_slot


@dataclass(frozen=True)
class Rewritten:
    """A graph of the same function, and where its operators came from."""

    graph: Graph
    origin: tuple[int, ...]  # operator of the main subgraph -> the one that it was before

    def then(self, later: "Rewritten") -> "Rewritten":
        """Return this change and a later one as one."""
        return Rewritten(later.graph, tuple(self.origin[o] for o in later.origin))

    @staticmethod
    def nothing(graph: Graph) -> "Rewritten":
        """Return the unchanged graph."""
        return Rewritten(graph, tuple(range(len(graph.main.ops))))


class Edit(GraphBuilder):
    """Changed constants and operators of the main subgraph, which computes the same function."""

    def __init__(self, graph: Graph):
        super().__init__(graph.main.tensors, graph.main.ops)
        self._graph = graph

    def own_constant(self, o: int, slot: int, data: AnyArray) -> None:
        """Give operator `o` a constant of its own, of any shape, in place of the one in `slot`."""
        tensor = self.tensors[self.ops[o].inputs[slot]]
        values = replace(tensor, shape=data.shape, shape_signature=None, data=data.astype(np.float32))
        self.feed(o, slot, self.new(values))

    def bias(self, o: int, data: Float32Array) -> None:
        """Give the linear operator `o` this bias, float32 [O], whether it had one or not."""
        op, slot = self.ops[o], bias_slot(self.ops[o].code)
        if bias_of(op) == ABSENT:
            added = self.constant(f"{self.tensors[op.outputs[0]].name}/bias", data.astype(np.float32))
            self.ops[o] = replace(op, inputs=(*op.inputs[:slot], *[ABSENT] * (slot + 1 - len(op.inputs))))
            self.feed(o, slot, added)
        self.own_constant(o, slot, data)

    def last_axis(self, tensor: int, size: int) -> None:
        """Say how many channels a tensor has, whatever computes its shape: bias correction has to know."""
        source = self.tensors[tensor]
        if len(source.shape) == 2 and source.dynamic_shape[-1] == -1:
            shape, signature = (*source.shape[:-1], size), (*source.dynamic_shape[:-1], size)
            self.tensors[tensor] = replace(source, shape=shape, shape_signature=signature)

    def rewritten(self) -> Rewritten:
        """Return the graph with all changes."""
        subgraphs = (self.subgraph(self._graph.main), *self._graph.subgraphs[1:])
        return Rewritten(replace(self._graph, subgraphs=subgraphs), self.kept())


def along(values: FloatArray, axis: int, rank: int) -> FloatArray:
    """Return one value per index of `axis`, [n], with so many axes of 1 that it broadcasts to `rank` axes."""
    return values.reshape([-1 if a == axis else 1 for a in range(rank)])
