"""What a way to quantize a model costs, measured: quantize it with a few samples, run the simulation on them, compare.

The simulation is a float graph (`float_simulation`): no file that was not checked runs in the user's process.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.float_simulation import float_simulation
from tfq_converters.graph import Graph
from tfq_converters.quantized import OpKey
from tfq_converters.runtime import Runner
from tfq_converters.weights import channels_of
from tfq_fine.calibration import calibrate, mean_needs, range_needs
from tfq_fine.data import Batch
from tfq_fine.encodings import integer_ops
from tfq_fine.equalization.block_factors import factor_blocks
from tfq_fine.equalization.noise import Channels
from tfq_fine.extension import Extension
from tfq_fine.metrics import ErrorSums
from tfq_fine.observation import MOVES_VALUES, Needs
from tfq_fine.placement import place
from tfq_fine.plan import Plan, Policy, make_plan
from tfq_fine.quantizer import quantize
from tfq_fine.ranges import chosen, observer_needs
from tfq_fine.sampling import Sample
from tfq_fine.specs import OpSpec

PROBABILITIES = frozenset({"SOFTMAX", "LOG_SOFTMAX", "LOGISTIC"})
MAY_MASK = frozenset({"ADD", "SUB", "SELECT", "SELECT_V2"})
PASSES = MOVES_VALUES | {"QUANTIZE", "DEQUANTIZE"}
Asked = Mapping[OpKey, OpSpec | None]


@dataclass(frozen=True)
class Variant:
    """One way to quantize a model."""

    graph: Graph
    asked: Asked
    bounded_masks: bool = True


def planned(graph: Graph, asked: Asked, policy: Policy, fold: bool = True) -> tuple[Graph, Plan]:
    """The graph with the factors of blocks folded, unless statistics hold for the one as it is, and its plan."""
    if not fold:
        return graph, make_plan(graph, asked, policy)
    factored = factor_blocks(graph, asked)
    return factored.graph, make_plan(factored.graph, asked, policy, factored.notes, factored.kept)


def static_needs(graph: Graph, plan: Plan, only: AbstractSet[int] | None = None) -> Needs:
    """What a plan with integer operators needs to know of the data, which chooses all ranges, or `only` some."""
    return range_needs(graph).also(mean_needs(graph)).also(observer_needs(graph, plan, only))


@dataclass
class Trial:
    """Variants of one model, measured on the same samples; each once."""

    policy: Policy
    no_islands: bool
    samples: Sequence[Sample]
    threads: int = 1
    model: Graph | None = None  # the float model
    _held: dict[str, list[list[np.ndarray]]] = field(default_factory=dict)

    def sqnr(self, variant: Variant) -> float:
        """How far the outputs are from the float model's, in dB."""
        graph, plan = planned(variant.graph, variant.asked, self.policy)
        static = bool(integer_ops(plan))
        batches = [Batch(sample, None, n) for n, sample in enumerate(self.samples)]
        statistics = calibrate(graph, batches, static_needs(graph, plan) if static else mean_needs(graph), self.threads)
        known = chosen(graph, plan, statistics) if static else statistics
        masks = variant.bounded_masks
        plan = place(graph, plan, known, self.policy, self.no_islands, masks)
        quantized = quantize(graph, plan, known, bounded_masks=masks)
        return self._compared(self.run(judged(float_simulation(quantized))))

    @property
    def _expected(self) -> list[list[np.ndarray]]:
        """The outputs of the float model."""
        return self._once("outputs", lambda graph: graph)

    @property
    def _judged(self) -> list[list[np.ndarray]]:
        """What errors are judged on, of the float model."""
        return self._once("judged", judged)

    def _once(self, what: str, changed: Callable[[Graph], Graph]) -> list[list[np.ndarray]]:
        if what not in self._held:
            assert self.model is not None
            self._held[what] = self.run(changed(self.model))
        return self._held[what]

    def run(self, graph: Graph) -> list[list[np.ndarray]]:
        """The outputs of a float graph for every sample."""
        with flatbuffer.scratch(graph) as path:
            runner = Runner(path, threads=self.threads)
        return [runner.run(sample) for sample in self.samples]

    def difference(self, graph: Graph) -> float:
        """The largest difference between the float outputs of `graph` and of the model, to the largest output."""
        pairs = self._pairs(self.run(graph))
        return max((float(np.abs(x - y).max() / max(np.abs(x).max(), 1e-30)) for x, y in pairs), default=0.0)

    def channels(self, graph: Graph, tensors: Sequence[int]) -> dict[int, Channels]:
        """What the channels of some activations look like, computed inside the graph."""
        found: dict[int, Channels] = {}
        sizes = [channels_of(graph.main, t) for t in tensors for _ in range(3)]
        for (row,) in self.run(_with_channels(graph, tensors)):
            pieces = iter(np.split(row.astype(np.float64), np.cumsum(sizes)[:-1]))
            for t in tensors:
                seen = Channels(next(pieces), next(pieces), next(pieces))
                found[t] = found[t].union(seen) if t in found else seen
        return found

    def _pairs(self, found: list[list[np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
        both = zip(self._expected, found, strict=True)
        pairs = [pair for before, after in both for pair in zip(before, after, strict=True)]
        return [(x, y) for x, y in pairs if x.dtype == np.float32 and x.size]

    def _compared(self, found: list[list[np.ndarray]]) -> float:
        """The mean over samples of the SQNR in dB, so that no single sample decides."""
        each = [_sqnr(*pair) for pair in zip(self._judged, found, strict=True)]
        return float(np.mean(each)) if each else math.inf


def _sqnr(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """Of all outputs for one sample; all of them count alike."""
    sums = [ErrorSums.of(x, y) for x, y in zip(expected, found, strict=True) if x.dtype == np.float32]
    noise = [total.noise / total.signal for total in sums if total.signal]
    return -10 * math.log10(max(sum(noise) / len(noise), 1e-12)) if noise else 120.0


def judged(graph: Graph) -> Graph:
    """The graph with the outputs that errors are judged on: scores in front of what turns them into probabilities.

    Probabilities near 0 and 1 hide what happens to the scores, and few samples have others. Scores that may be masked
    are no measure: where they are, they may be anything.
    """
    scores: dict[int, int] = {}  # probabilities -> scores
    masked: set[int] = set()
    for op in graph.main.ops:
        if op.code in MAY_MASK or (op.code in PASSES and op.inputs[0] in masked):
            masked |= {*op.outputs}
        elif op.code in PROBABILITIES and op.inputs[0] not in masked:
            scores[op.outputs[0]] = op.inputs[0]
        elif op.code in ("QUANTIZE", "DEQUANTIZE") and op.inputs[0] in scores:  # of a simulation
            scores[op.outputs[0]] = scores[op.inputs[0]]
    return with_outputs(graph, [scores.get(t, t) for t in graph.main.outputs])


def _with_channels(graph: Graph, tensors: Sequence[int]) -> Graph:
    """The graph whose output is minimum, maximum and mean square of each channel of each of `tensors`, in one row."""
    main, extension = graph.main, Extension(list(graph.main.tensors))
    rows: dict[int, list[int]] = {}

    def observe(t: int) -> None:
        if t in tensors:
            square = extension.squared(t)
            rows[t] = [
                extension.over_channels(*pair) for pair in (("REDUCE_MIN", t), ("REDUCE_MAX", t), ("MEAN", square))
            ]

    for t in main.inputs:
        observe(t)
    for op in main.ops:
        extension.ops.append(op)
        for t in op.outputs:
            observe(t)
    row = extension.joined([piece for t in tensors for piece in rows[t]])
    summed = replace(main, tensors=tuple(extension.tensors), ops=tuple(extension.ops), outputs=(row,))
    return replace(graph, subgraphs=(summed, *graph.subgraphs[1:]), signatures=())


def with_outputs(graph: Graph, tensors: Sequence[int]) -> Graph:
    """The graph with other outputs."""
    main = replace(graph.main, outputs=tuple(tensors))
    return replace(graph, subgraphs=(main, *graph.subgraphs[1:]), signatures=())
