"""Changes of the main subgraph: constants replaced, operators taken out; then a graph again."""

from dataclasses import dataclass, replace

import numpy as np

from tfq_converters.graph import ABSENT, Graph, Op, Tensor
from tfq_converters.operators import bias_of, bias_slot


@dataclass(frozen=True)
class Rewritten:
    """A graph of the same function, and where its operators came from."""

    graph: Graph
    origin: tuple[int, ...]  # operator of the main subgraph -> the one that it was before

    def then(self, later: "Rewritten") -> "Rewritten":
        """This change and a later one as one."""
        return Rewritten(later.graph, tuple(self.origin[o] for o in later.origin))

    @staticmethod
    def nothing(graph: Graph) -> "Rewritten":
        """The graph as it is."""
        return Rewritten(graph, tuple(range(len(graph.main.ops))))


class Edit:
    """New tensors and changed operators of the main subgraph."""

    def __init__(self, graph: Graph):
        self._graph = graph
        self.tensors: list[Tensor] = list(graph.main.tensors)
        self.ops: list[Op] = list(graph.main.ops)
        self._removed: set[int] = set()

    def data(self, o: int, slot: int) -> np.ndarray:
        """The constant that operator `o` reads in `slot`."""
        data = self.tensors[self.ops[o].inputs[slot]].data
        assert data is not None
        return data

    def constant(self, o: int, slot: int, data: np.ndarray) -> None:
        """Give operator `o` a constant of its own in place of the one in `slot`."""
        tensor = self.tensors[self.ops[o].inputs[slot]]
        self.tensors.append(replace(tensor, shape=data.shape, shape_signature=None, data=data.astype(np.float32)))
        self._feed(o, slot, len(self.tensors) - 1)

    def bias(self, o: int, data: np.ndarray) -> None:
        """Give the linear operator `o` this bias, whether it had one or not."""
        op, slot = self.ops[o], bias_slot(self.ops[o].code)
        if bias_of(op) == ABSENT:
            self.tensors.append(Tensor(f"{self.tensors[op.outputs[0]].name}/bias", data.shape, "float32", data=data))
            self.ops[o] = replace(op, inputs=(*op.inputs[:slot], *[ABSENT] * (slot + 1 - len(op.inputs))))
            self._feed(o, slot, len(self.tensors) - 1)
        self.constant(o, slot, data)

    def _feed(self, o: int, slot: int, tensor: int) -> None:
        inputs = list(self.ops[o].inputs)
        inputs[slot:] = [tensor, *inputs[slot + 1 :]]
        self.ops[o] = replace(self.ops[o], inputs=tuple(inputs))

    def rename(self, tensor: int, what: str) -> None:
        """A tensor that holds other values than before is called otherwise."""
        name = self.tensors[tensor].name.removesuffix(f"/{what}")
        self.tensors[tensor] = replace(self.tensors[tensor], name=f"{name}/{what}")

    def last_axis(self, tensor: int, size: int) -> None:
        """Tensor `tensor` has this many channels, whatever computes its shape: bias correction wants to know."""
        found = self.tensors[tensor]
        if len(found.shape) == 2 and found.dynamic_shape[-1] == -1:
            shape, signature = (*found.shape[:-1], size), (*found.dynamic_shape[:-1], size)
            self.tensors[tensor] = replace(found, shape=shape, shape_signature=signature)

    def remove(self, o: int) -> None:
        """Take operator `o` out; nothing may read its result any more."""
        self._removed.add(o)

    def read_instead(self, old: int, new: int) -> None:
        """Everything that reads tensor `old` reads `new`."""
        for o, op in enumerate(self.ops):
            if old in op.inputs and o not in self._removed:
                self.ops[o] = replace(op, inputs=tuple(new if t == old else t for t in op.inputs))

    def rewritten(self) -> Rewritten:
        """The graph with all changes."""
        kept = [o for o in range(len(self.ops)) if o not in self._removed]
        main = replace(self._graph.main, tensors=tuple(self.tensors), ops=tuple(self.ops[o] for o in kept))
        return Rewritten(replace(self._graph, subgraphs=(main, *self._graph.subgraphs[1:])), tuple(kept))


def along(values: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """One value per index of `axis`, to be broadcast."""
    return values.reshape([-1 if a == axis else 1 for a in range(rank)])
