"""The one way to make a subgraph: tensors and operators are added, changed and taken out, then it is a value again."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from tfq_converters.graph import ABSENT, AnyArray, IntArray, Op, Options, Subgraph, Tensor
from tfq_converters.graph_edit.parts import compact


class GraphBuilder:
    """Tensors and operators of a subgraph that is being made.

    Tensors keep their indices until `finish`; new ones are appended.

    Args:
        tensors: the tensors to begin with.
        ops: the operators to begin with.
    """

    def __init__(self, tensors: Iterable[Tensor], ops: Iterable[Op] = ()):
        self.tensors: list[Tensor] = list(tensors)
        self.ops: list[Op] = list(ops)
        self.layer = ""  # given to every operator that is added and names no layer of its own
        self._shared: dict[tuple[tuple[int, ...], bytes], int] = {}  # integer constants by value
        self._removed: set[int] = set()

    def new(self, tensor: Tensor) -> int:
        """Append a tensor; returns its index."""
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, name: str, data: AnyArray) -> int:
        """Append a plain constant of any type and shape, such as the shape of a tensor."""
        return self.new(Tensor(name, data.shape, data.dtype.name, data=data))

    def shared(self, values: IntArray | Sequence[int]) -> int:
        """Return the index of an int32 constant of any shape; equal ones are one."""
        data = np.asarray(values, np.int32)
        key = (data.shape, data.tobytes())
        if key not in self._shared:
            self._shared[key] = self.constant(f"constant_{len(self._shared)}", data)
        return self._shared[key]

    def add(self, op: Op) -> None:
        """Append an operator."""
        self.ops.append(replace(op, layer=self.layer) if self.layer and not op.layer else op)

    def step(
        self, code: str, inputs: tuple[int, ...], result: Tensor, options: Options | None, version: int = 1
    ) -> int:
        """Append an operator with one new result; returns the result's index."""
        output = self.new(result)
        self.add(Op(code, inputs, (output,), options, version))
        return output

    def again(self, op: Op, suffix: str = "/again") -> tuple[int, ...]:
        """Append an operator like `op`, with results of its own; returns them."""
        outputs = tuple(self.new(replace(self.tensors[t], name=self.tensors[t].name + suffix)) for t in op.outputs)
        self.add(replace(op, outputs=outputs))
        return outputs

    def data(self, o: int, slot: int) -> AnyArray:
        """Return the constant, of the shape of its tensor, that operator `o` reads in `slot`."""
        return self.tensors[self.ops[o].inputs[slot]].constant

    def feed(self, o: int, slot: int, tensor: int) -> None:
        """Give operator `o` the input `tensor` in `slot`, which may be the first that it lacks."""
        inputs = list(self.ops[o].inputs)
        inputs[slot:] = [tensor, *inputs[slot + 1 :]]
        self.ops[o] = replace(self.ops[o], inputs=tuple(inputs))

    def feed_instead(self, old: int, new: int) -> None:
        """Let everything that reads tensor `old` read `new`."""
        for o, op in enumerate(self.ops):
            if old in op.inputs and o not in self._removed:
                self.ops[o] = replace(op, inputs=tuple(new if t == old else t for t in op.inputs))

    def rename(self, tensor: int, what: str) -> None:
        """Name a tensor by what was done to its values, since it holds others than before."""
        name = self.tensors[tensor].name.removesuffix(f"/{what}")
        self.tensors[tensor] = replace(self.tensors[tensor], name=f"{name}/{what}")

    def remove(self, o: int) -> None:
        """Take operator `o` out; nothing may read its results any more."""
        self._removed.add(o)

    def kept(self) -> tuple[int, ...]:
        """Return the indices of the operators that were not taken out."""
        return tuple(o for o in range(len(self.ops)) if o not in self._removed)

    def subgraph(
        self, source: Subgraph, inputs: Sequence[int] | None = None, outputs: Sequence[int] | None = None
    ) -> Subgraph:
        """Return `source` with all tensors of the builder; inputs and outputs stay those of `source` when None."""
        return replace(
            source,
            tensors=tuple(self.tensors),
            ops=tuple(self.ops[o] for o in self.kept()),
            inputs=source.inputs if inputs is None else tuple(inputs),
            outputs=source.outputs if outputs is None else tuple(outputs),
        )

    def finish(
        self, source: Subgraph, inputs: Sequence[int] | None = None, outputs: Sequence[int] | None = None
    ) -> tuple[Subgraph, dict[int, int]]:
        """Return `subgraph` without unused tensors, and the map from tensor indices here to those in it."""
        built, places = compact(self.subgraph(source, inputs, outputs))
        return built, {old: new for old, new in places.items() if old != ABSENT}
