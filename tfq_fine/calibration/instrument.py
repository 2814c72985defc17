"""The float graph extended by reductions of its own activations, so that only a few numbers leave the interpreter.

REDUCE_MIN and REDUCE_MAX, and reductions per channel where asked, follow each operator at once, while its result is
still in the cache; a sample of the values is gathered at the end. All results leave in a few outputs. Only second
moments and the states of fused LSTMs take whole tensors out of the graph, one run at a time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from tfq_converters.graph import AnyArray, Float32Array, Float64Array, FloatArray, Graph, Tensor
from tfq_converters.graph_edit import GraphBuilder, steps
from tfq_converters.operators import channels_of, data_of, facts_of, fused_activation
from tfq_converters.quantized import OpKey, TensorKey
from tfq_converters.runtime import known_ops
from tfq_fine.calibration.observers import channel_absmax, channel_limits, channel_mean
from tfq_fine.calibration.value_sampling import sampled


@dataclass(frozen=True)
class StatisticsRequest:
    """The statistics that calibration must gather."""

    ranges: tuple[TensorKey, ...] = ()
    means: tuple[TensorKey, ...] = ()  # per channel, the last axis
    histograms: tuple[TensorKey, ...] = ()  # with extremes
    extremes: tuple[TensorKey, ...] = ()
    moving: tuple[tuple[TensorKey, float], ...] = ()  # with their momentum
    absmax: tuple[TensorKey, ...] = ()  # per channel
    channels: tuple[TensorKey, ...] = ()  # low, high and mean square per channel
    second_moments: tuple[OpKey, ...] = ()
    strains: tuple[OpKey, ...] = ()  # fused LSTMs whose gates are watched
    inputs: tuple[OpKey, ...] = ()  # operators whose algorithm fits weights to inputs, for which samples are kept

    def also(self, other: "StatisticsRequest") -> "StatisticsRequest":
        """Return all that both ask for."""
        names = tuple(field.name for field in fields(StatisticsRequest))
        return StatisticsRequest(
            **{name: tuple(dict.fromkeys(getattr(self, name) + getattr(other, name))) for name in names}
        )


@dataclass(frozen=True)
class InstrumentedGraph:
    """The extended graph, and the meaning of its outputs."""

    graph: Graph
    needs: StatisticsRequest  # tensors whose values are another's are left out of the ranges and such
    sizes: tuple[int, ...]  # size of the sample for each of `needs.histograms`
    channels: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]  # for `needs.means`, `.absmax`, `.channels`
    fetched: tuple[int, ...]  # tensors of `needs.second_moments` and `needs.strains`

    def read(self, outputs: list[AnyArray]) -> "RunResult":
        """Return the outputs of one run, of the shapes that `RunResult` gives, by what they are."""
        left = iter(outputs)
        count = len(self.needs.ranges)
        limits = next(left) if count else np.zeros(0, np.float32)
        means = _pieces(next(left), self.channels[0]) if self.needs.means else []
        limits_of_channels = (
            _pieces(next(left), [n for n in self.channels[1] for _ in range(2)]) if self.needs.absmax else []
        )
        rows = _pieces(next(left), [n for n in self.channels[2] for _ in range(3)]) if self.needs.channels else []
        values = next(left) if self.needs.histograms else np.zeros(0, np.float32)
        pairs = zip(limits_of_channels[::2], limits_of_channels[1::2], strict=True)
        return RunResult(
            limits[:count],
            limits[count:],
            [channel_mean.value([mean]) for mean in means],
            [channel_absmax.value(list(pair)) for pair in pairs],
            [np.stack(rows[k : k + 3]).astype(np.float64) for k in range(0, len(rows), 3)],
            values,
            dict(zip(self.fetched, left, strict=True)),
        )


@dataclass(frozen=True)
class RunResult:
    """The observations of one run."""

    low: Float32Array  # float32 [ranges]
    high: Float32Array  # float32 [ranges]
    means: list[Float64Array]  # float64 [channels] each
    absmax: list[Float32Array]  # float32 [channels] each
    limits: list[Float64Array]  # float64 [3, channels] each: low, high, mean square
    values: Float32Array  # float32 [sum of the sizes of the samples]
    tensors: dict[int, AnyArray]  # whole activations

    @property
    def is_finite(self) -> bool:
        """Whether no tensor holds NaN or infinity."""
        parts: tuple[FloatArray, ...] = (self.low, self.high, *self.means, *self.absmax, *self.limits)
        return all(np.isfinite(part).all() for part in parts)


def _pieces(row: Float32Array, sizes: tuple[int, ...] | list[int]) -> list[Float32Array]:
    return np.split(row, np.cumsum(sizes)[:-1])


def moved_from(graph: Graph) -> Mapping[int, int]:
    """Return tensor -> the tensor whose values it holds, so that one range serves both (perhaps a little wide)."""
    return graph.derived.once(lambda: _moved_from(graph), key="moved from")


def _moved_from(graph: Graph) -> dict[int, int]:
    main = graph.main
    sources: dict[int, int] = {}
    for op in main.ops:
        source = next((t for t in op.inputs if t >= 0 and main.tensors[t].dtype == "float32"), None)
        if facts_of(op.code).within_input and source is not None and not main.tensors[source].is_constant:
            sources |= {t: sources.get(source, source) for t in op.outputs}
    return sources


def instrumented(graph: Graph, needs: StatisticsRequest) -> InstrumentedGraph:
    """Return the graph whose outputs are the statistics of `needs`, without those of tensors that have no elements."""
    main, moved, needs = graph.main, moved_from(graph), _with_elements(graph, needs)
    histograms = tuple(dict.fromkeys((0, moved.get(t, t)) for _, t in needs.histograms))
    extremes = tuple(dict.fromkeys([*histograms, *((0, moved.get(t, t)) for _, t in needs.extremes)]))
    moving = tuple(dict.fromkeys(((0, moved.get(t, t)), momentum) for (_, t), momentum in needs.moving))
    roots = [(0, moved.get(t, t)) for _, t in needs.ranges]
    ranges = tuple(dict.fromkeys([*roots, *extremes, *(key for key, _ in moving)]))
    builder = GraphBuilder(main.tensors)
    zero = builder.new(Tensor("zero", (), "float32", data=np.zeros((), np.float32)))
    limits: dict[int, tuple[int, int]] = {}
    means: dict[int, list[int]] = {}
    absmax: dict[int, list[int]] = {}
    channels: dict[int, list[int]] = {}

    def observe(t: int, low: int | None = None) -> None:
        if (0, t) in ranges:
            limits[t] = steps.range_of(builder, t, low)
        if (0, t) in needs.means:
            means[t] = channel_mean.outputs(builder, t)
        if (0, t) in needs.absmax:
            absmax[t] = channel_absmax.outputs(builder, t)
        if (0, t) in needs.channels:
            channels[t] = channel_limits.outputs(builder, t)

    for t in main.inputs:
        observe(t)
    for op in (main.ops[o] for o in known_ops(graph)):
        builder.add(op)
        rectified = fused_activation(op) in ("RELU", "RELU6")  # the smallest value is 0, and every range holds 0
        for t in op.outputs:
            observe(t, zero if rectified else None)
    outputs = [steps.packed(builder, [limits[t][side] for side in (0, 1) for _, t in ranges])] if ranges else []
    for keys, tensors_of in ((needs.means, means), (needs.absmax, absmax), (needs.channels, channels)):
        outputs += [steps.joined(builder, [piece for _, t in keys for piece in tensors_of[t]])] if keys else []
    rows = [sampled(builder, t) for _, t in histograms]
    outputs += [steps.joined(builder, rows)] if rows else []
    inputs = [data_of(main.ops[o]) for _, o in needs.second_moments]
    inputs += [t for _, o in needs.strains for t in (data_of(main.ops[o]), main.ops[o].outputs[0])]
    fetched = tuple(dict.fromkeys(inputs))
    subgraph = builder.subgraph(main, outputs=(*outputs, *fetched))
    return InstrumentedGraph(
        replace(graph, subgraphs=(subgraph, *graph.subgraphs[1:]), signatures=()),
        replace(needs, ranges=ranges, histograms=histograms, extremes=extremes, moving=moving),
        tuple(builder.tensors[row].shape[0] for row in rows),
        (_channels(graph, needs.means), _channels(graph, needs.absmax), _channels(graph, needs.channels)),
        fetched,
    )


def _with_elements(graph: Graph, needs: StatisticsRequest) -> StatisticsRequest:
    """Return the part of the request that is about tensors with elements."""

    def some(key: TensorKey) -> bool:
        return 0 not in graph.main.tensors[key[1]].shape

    return replace(
        needs,
        ranges=tuple(filter(some, needs.ranges)),
        means=tuple(filter(some, needs.means)),
        histograms=tuple(filter(some, needs.histograms)),
        extremes=tuple(filter(some, needs.extremes)),
        moving=tuple(pair for pair in needs.moving if some(pair[0])),
        absmax=tuple(filter(some, needs.absmax)),
    )


def _channels(graph: Graph, keys: tuple[TensorKey, ...]) -> tuple[int, ...]:
    return tuple(channels_of(graph.main, t) for _, t in keys)
