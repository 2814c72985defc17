"""The float graph extended by reductions of its own activations, so that only a few numbers leave the interpreter.

REDUCE_MIN and REDUCE_MAX, and MEAN per channel where asked, follow each operator at once, while its result is still in
the cache; all results are gathered in two outputs.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from tfq_converters.graph import Graph, Op, Options, Tensor
from tfq_converters.quantized import TensorKey

MAX_RANK = 6  # of XNNPACK's reductions
# operators whose outputs hold values of their first float input, or means of them, and zeros at most
MOVES_VALUES = frozenset(
    {
        *("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "SPLIT", "SPLIT_V", "UNPACK"),
        *("PAD", "MIRROR_PAD", "MAX_POOL_2D", "AVERAGE_POOL_2D", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH", "REVERSE_V2"),
        *("BATCH_TO_SPACE_ND", "SPACE_TO_BATCH_ND", "TILE", "BROADCAST_TO"),
        *("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"),
    }
)
RECTIFIED = frozenset({1, 3})  # fused RELU and RELU6: the smallest value is 0, and every range holds 0


@dataclass(frozen=True)
class Needs:
    """What calibration must find out."""

    ranges: tuple[TensorKey, ...] = ()
    means: tuple[TensorKey, ...] = ()  # per channel, the last axis


@dataclass(frozen=True)
class Observed:
    """The extended graph. Outputs: minima, then maxima of `ranges` [2N]; the means of `means` one after the other."""

    graph: Graph
    ranges: tuple[TensorKey, ...]
    means: tuple[TensorKey, ...]
    channels: tuple[int, ...]  # of each of `means`


def moved_from(graph: Graph) -> dict[int, int]:
    """Tensor -> the tensor whose values it holds, so that one range serves both (it may be a little too wide)."""
    main = graph.main
    found: dict[int, int] = {}
    for op in main.ops:
        source = next((t for t in op.inputs if t >= 0 and main.tensors[t].dtype == "float32"), None)
        if op.code in MOVES_VALUES and source is not None and not main.tensors[source].is_constant:
            found |= {t: found.get(source, source) for t in op.outputs}
    return found


@dataclass
class _Extension:
    tensors: list[Tensor]
    ops: list[Op] = field(default_factory=list)
    limits: dict[int, tuple[int, int]] = field(default_factory=dict)  # tensor -> its minimum and maximum
    means: dict[int, int] = field(default_factory=dict)
    shared: dict[tuple[int, ...], int] = field(default_factory=dict)  # integer constants by their values

    def new(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, values: list[int]) -> int:
        if (*values,) not in self.shared:
            data = np.array(values, np.int32)
            self.shared[(*values,)] = self.new(Tensor(f"constant_{len(self.shared)}", data.shape, "int32", data=data))
        return self.shared[(*values,)]

    def reduce(self, code: str, source: int, axes: list[int], shape: tuple[int, ...]) -> int:
        name = f"{self.tensors[source].name}/{code}"
        result = self.new(Tensor(name, shape, "float32"))
        axis = self.constant(axes)
        self.ops.append(Op(code, (source, axis), (result,), Options("ReducerOptions", {"keepDims": False})))
        return result

    def observe_range(self, t: int, low: int | None) -> None:
        """Reduce tensor `t`; its minimum is not computed when tensor `low` is known to hold it."""
        source, rank = t, len(self.tensors[t].shape)
        if not 0 < rank <= MAX_RANK:
            source, rank = self._flat(t), 1
        axes = list(range(rank))
        minimum = self.reduce("REDUCE_MIN", source, axes, ()) if low is None else low
        self.limits[t] = (minimum, self.reduce("REDUCE_MAX", source, axes, ()))

    def _flat(self, t: int) -> int:
        tensor = self.tensors[t]
        target = self.constant([-1])
        count = int(np.prod(tensor.shape, dtype=np.int64))
        result = self.new(Tensor(f"{tensor.name}/flat", (count,), "float32", (-1,)))
        options = Options("ReshapeOptions", {"newShape": np.array([-1], np.int32)})
        self.ops.append(Op("RESHAPE", (t, target), (result,), options))
        return result

    def gather(self, name: str, pieces: list[int], code: str, options: Options) -> int:
        shape = (sum(int(np.prod(self.tensors[piece].shape)) for piece in pieces),)
        result = self.new(Tensor(name, shape, "float32"))
        self.ops.append(Op(code, tuple(pieces), (result,), options))
        return result


def observed(graph: Graph, needs: Needs) -> Observed:
    """The graph whose outputs are what `needs` asks for."""
    main = graph.main
    moved = moved_from(graph)
    ranges = tuple(dict.fromkeys((0, moved.get(t, t)) for _, t in needs.ranges))
    wanted, mean_of = {t for _, t in ranges}, {t for _, t in needs.means}
    extension = _Extension(list(main.tensors))
    zero = extension.new(Tensor("zero", (), "float32", data=np.zeros((), np.float32)))

    def observe(t: int, low: int | None = None) -> None:
        if t in wanted:
            extension.observe_range(t, low)
        if t in mean_of:
            shape = main.tensors[t].shape
            extension.means[t] = extension.reduce("MEAN", t, list(range(len(shape) - 1)), shape[-1:])

    for t in main.inputs:
        observe(t)
    for op in main.ops:
        extension.ops.append(op)
        rectified = op.options is not None and op.options.values.get("fusedActivationFunction") in RECTIFIED
        for t in op.outputs:
            observe(t, zero if rectified else None)
    outputs = []
    if ranges:
        limits = [extension.limits[t][side] for side in (0, 1) for _, t in ranges]
        options = Options("PackOptions", {"valuesCount": len(limits), "axis": 0})
        outputs.append(extension.gather("ranges", limits, "PACK", options))
    if needs.means:
        options = Options("ConcatenationOptions", {"axis": 0, "fusedActivationFunction": 0})
        means = [extension.means[t] for _, t in needs.means]
        outputs.append(extension.gather("means", means, "CONCATENATION", options))
    subgraph = replace(main, tensors=tuple(extension.tensors), ops=tuple(extension.ops), outputs=tuple(outputs))
    extended = replace(graph, subgraphs=(subgraph, *graph.subgraphs[1:]), signatures=())
    channels = tuple(main.tensors[t].shape[-1] for _, t in needs.means)
    return Observed(extended, ranges, needs.means, channels)
