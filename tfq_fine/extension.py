"""Operators that are added to a float graph to observe its activations from inside."""

from dataclasses import dataclass, field, replace

import numpy as np

from tfq_converters.graph import Op, Options, Tensor
from tfq_converters.operators import NOTHING_FUSED, PLAIN_MUL

MAX_RANK = 6  # of XNNPACK's reductions


@dataclass
class Extension:
    """A copy of a subgraph's tensors and operators that grows."""

    tensors: list[Tensor]
    ops: list[Op] = field(default_factory=list)
    _shared: dict[tuple[tuple[int, ...], bytes], int] = field(default_factory=dict)  # integer constants by value

    def new(self, tensor: Tensor) -> int:
        """The index of a new tensor."""
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, values: np.ndarray | list[int]) -> int:
        """The index of an int32 constant; equal ones are one."""
        data = np.asarray(values, np.int32)
        key = (data.shape, data.tobytes())
        if key not in self._shared:
            self._shared[key] = self.new(Tensor(f"constant_{len(self._shared)}", data.shape, "int32", data=data))
        return self._shared[key]

    def add(
        self, code: str, inputs: list[int], shape: tuple[int, ...], options: Options, dtype: str = "float32"
    ) -> int:
        """The result of a new operator; the first input gives it its name."""
        result = self.new(Tensor(f"{self.tensors[inputs[0]].name}/{code}", shape, dtype))
        self.ops.append(Op(code, tuple(inputs), (result,), options))
        return result

    def reduce(self, code: str, source: int, axes: list[int], shape: tuple[int, ...]) -> int:
        """`source` reduced over `axes`; of `shape` then."""
        return self.add(code, [source, self.constant(axes)], shape, Options("ReducerOptions", {"keepDims": False}))

    def over_channels(self, code: str, source: int) -> int:
        """`source` reduced over all axes but the last."""
        shape = self.tensors[source].shape
        return self.reduce(code, source, list(range(len(shape) - 1)), shape[-1:])

    def squared(self, t: int) -> int:
        """`t` times itself."""
        tensor = self.tensors[t]
        result = self.new(replace(tensor, name=f"{tensor.name}/square"))
        self.ops.append(Op("MUL", (t, t), (result,), PLAIN_MUL))
        return result

    def flat(self, t: int) -> int:
        """All values of `t` in one row."""
        tensor = self.tensors[t]
        result = self.new(
            Tensor(f"{tensor.name}/flat", (int(np.prod(tensor.shape, dtype=np.int64)),), "float32", (-1,))
        )
        options = Options("ReshapeOptions", {"newShape": np.array([-1], np.int32)})
        self.ops.append(Op("RESHAPE", (t, self.constant([-1])), (result,), options))
        return result

    def range_of(self, t: int, low: int | None = None) -> tuple[int, int]:
        """(minimum, maximum) of `t`; the minimum is not computed when tensor `low` is known to hold it."""
        source, rank = t, len(self.tensors[t].shape)
        if not 0 < rank <= MAX_RANK:
            source, rank = self.flat(t), 1
        axes = list(range(rank))
        minimum = self.reduce("REDUCE_MIN", source, axes, ()) if low is None else low
        return minimum, self.reduce("REDUCE_MAX", source, axes, ())

    def packed(self, pieces: list[int]) -> int:
        """Single values in one row."""
        return self.add("PACK", pieces, (len(pieces),), Options("PackOptions", {"valuesCount": len(pieces), "axis": 0}))

    def joined(self, pieces: list[int]) -> int:
        """Rows behind one another in one row."""
        options = Options("ConcatenationOptions", {"axis": 0, **NOTHING_FUSED})
        return self.add("CONCATENATION", pieces, (sum(self.tensors[t].shape[0] for t in pieces),), options)
