"""Ways to quantize a model, each measured on the file that it would give.

A variant is quantized with the same function and from the same statistics as the file that a user gets
(`numbers.choose_numbers`: ranges over all samples), written, and run in a process of its own on some of the samples.
So kernels, the on-the-fly rounding of dynamic-range inputs, and errors on their way through the model all count.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.check import decoded, encoded, float_run, nan_as_worst
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, IdentityCache
from tfq_converters.kernels import costs
from tfq_converters.quantized import OpKey, QuantizedGraph, TensorKey
from tfq_converters.realize import ValueForm, realize
from tfq_converters.runtime import FileRuns, Runner
from tfq_fine.activations import integer_ops, observer_needs
from tfq_fine.calibration import Sample, Statistics, StatisticsRequest, calibrate, mean_needs, range_needs
from tfq_fine.data import Batch
from tfq_fine.numerics import ErrorSums, constant_bytes
from tfq_fine.placement import How
from tfq_fine.planning import Plan, Policy, make_plan
from tfq_fine.request import OpSpec
from tfq_fine.search.judging import (
    WORST,
    Apart,
    Judged,
    decibels_of,
    judged,
    mean_decibels,
    uses,
)
from tfq_fine.search.numbers import Numbers, Settings, choose_numbers, choose_ranges
from tfq_fine.transforms import Channels, factor_blocks
from tfq_fine.weights import weight_needs, with_corrections

RequestedSpecs = Mapping[OpKey, OpSpec | None]
Score = Callable[[Sequence[np.ndarray], int], float]
Calibrated = Callable[[Graph, StatisticsRequest], Statistics]  # what all samples show of a graph
SAMPLES, SAMPLES_QUICK = 8, 16  # at least, that variants are measured on: of a model that takes long, of a quick one
INSIDE = 4  # samples of which all tensors of a file are looked at
QUICK_NS = 20e6  # of one run of the float model, by the table of costs
BUDGET_NS, AT_MOST = 120e6, 64  # of all runs: the quicker a model, the more samples, up to so many
LARGEST = 2**28  # bytes of constants, beyond which no variants are run: kernels may unpack all of them


@dataclass(frozen=True)
class Variant:
    """One way to quantize a model."""

    graph: Graph
    requested: RequestedSpecs
    bounded_masks: bool = True
    corrected: frozenset[OpKey] = frozenset()  # the operators whose biases are corrected
    islands: Mapping[int, str] = field(default_factory=dict)  # operators of the main subgraph kept in float -> why
    how: Mapping[int, How] = field(default_factory=dict)  # operator of those -> how it holds its weights


@dataclass(frozen=True)
class Measured:
    """The result of running the file of a variant."""

    each: tuple[float, ...]  # SQNR of the outputs in dB, one figure per sample; -inf where one is not finite
    problem: str = ""  # why it could not be run
    apart: tuple[Apart, ...] = ()  # how far each output is off, as a user sees it

    @property
    def db(self) -> float:
        """The mean over samples."""
        return mean_decibels(self.each)

    @property
    def low(self) -> float:
        """The SQNR that nine in ten samples reach."""
        return sorted(self.each)[len(self.each) // 10] if self.each else self.db


def fold_and_plan(graph: Graph, requested: RequestedSpecs, policy: Policy, fold: bool = True) -> tuple[Graph, Plan]:
    """Return the graph with the factors of blocks folded, unless statistics hold for the original one, and its plan."""
    if not fold:
        return graph, make_plan(graph, requested, policy)
    factored = factor_blocks(graph, requested)
    return factored.graph, make_plan(factored.graph, requested, policy, factored.notes, factored.kept)


def static_needs(graph: Graph, plan: Plan, only: AbstractSet[int] | None = None) -> StatisticsRequest:
    """List what a plan with integer operators needs to know of the data, for all ranges or `only` some."""
    return range_needs(graph).also(mean_needs(graph)).also(observer_needs(graph, plan, only))


def number_of_samples(graph: Graph) -> int:
    """Return how many samples variants are measured on. It follows from the model alone, so that a file does too."""
    cost = sum(costs.cost(op, graph.main, "float32") for op in graph.main.ops)
    least = SAMPLES_QUICK if cost < QUICK_NS else SAMPLES
    return max(least, min(int(BUDGET_NS / max(cost, 1.0)), AT_MOST))


def too_large(graph: Graph) -> bool:
    """Return whether no variants of a model are run."""
    return sum(constant_bytes(graph).values()) > LARGEST


class Trial:
    """The variants of one model, each planned, calibrated and measured once.

    Args:
        model: the float model.
        settings: the settings of the job.
        calibrated: gathers the statistics of all samples for a graph; called once for every graph.
        samples: a few of them, inputs in input order.
        runs: the process that runs the files.
        threads: the number of threads of the interpreter that runs the float model.
        fold: the factors of blocks are folded into the graph; not where statistics hold for the unchanged graph.
        fresh: whether the samples are others than those that the statistics are of.
    """

    def __init__(
        self,
        model: Graph,
        settings: Settings,
        calibrated: Calibrated,
        samples: Sequence[Sample],
        runs: FileRuns,
        threads: int = 1,
        fold: bool = True,
        fresh: bool = False,
    ):
        self.model, self.settings, self.fold, self.fresh = model, settings, fold, fresh
        self.samples = samples[: number_of_samples(model)]
        self._calibrated, self._runs, self._threads = calibrated, runs, threads
        self._codes, self._stages = IdentityCache(), IdentityCache()

    @property
    def counts(self) -> list[int]:
        """The number of samples of the data in each of the samples: batches hold several."""
        sizes = [{len(array) if array.ndim else 1 for array in sample} for sample in self.samples]
        return [size.pop() if len(size) == 1 else 1 for size in sizes]

    def planned(self, variant: Variant) -> tuple[Graph, Plan]:
        """Return the graph that is quantized, and what every operator gets."""
        graph, requested, policy = variant.graph, variant.requested, self.settings.policy
        return self._stages.once(
            lambda: fold_and_plan(graph, requested, policy, self.fold), graph, requested, key="plan"
        )

    def know(self, variant: Variant, graph: Graph, plan: Plan, statistics: Statistics) -> None:
        """Take over what was planned and calibrated for a variant."""
        self._stages.once(lambda: (graph, plan), variant.graph, variant.requested, key="plan")
        self._stages.once(lambda: statistics, graph, key=("statistics", self._is_static(plan)))

    def _is_static(self, plan: Plan) -> bool:
        borders = {self.settings.input_type, self.settings.output_type}
        return bool(integer_ops(plan)) or borders != {"float32"}

    def whole(self, variant: Variant) -> Statistics:
        """Return what all samples show of the variant's graph."""
        graph, plan = self.planned(variant)
        static = self._is_static(plan)

        def calibrated() -> Statistics:
            needs = static_needs(graph, plan) if static else mean_needs(graph)
            return self._calibrated(graph, needs.also(weight_needs(graph, plan)))

        return self._stages.once(calibrated, graph, key=("statistics", static))

    def statistics(self, variant: Variant) -> Statistics:
        """Return the statistics of the variant's graph with the ranges that the observers choose."""
        graph, plan = self.planned(variant)
        whole = self.whole(variant)
        if not self._is_static(plan):
            return whole
        ops = tuple(sorted(integer_ops(plan).items()))
        return self._stages.once(lambda: choose_ranges(graph, plan, whole, self.samples), graph, key=("ranges", ops))

    def numbers(self, variant: Variant, means: Mapping[TensorKey, np.ndarray] | None = None) -> Numbers:
        """Return all that would be in the file; biases corrected by other channel `means` than those of all samples."""
        if means is None:
            return self._stages.once(lambda: self._numbers(variant, None), variant, key="numbers")
        return self._numbers(variant, means)

    def _numbers(self, variant: Variant, means: Mapping[TensorKey, np.ndarray] | None) -> Numbers:
        graph, plan = self.planned(variant)
        ranges = self.statistics(variant)
        if means is not None:
            ranges = replace(ranges, means=means)
        plan = with_corrections(plan, variant.corrected)
        return choose_numbers(
            graph,
            plan,
            ranges,
            self.settings,
            variant.bounded_masks,
            variant.islands,
            cache=self._codes,
            samples=self.samples,
            how=variant.how,
        )

    def measured(self, variant: Variant) -> Measured:
        """Run the file of a variant on the samples."""
        numbers, indices = partial(self.numbers, variant), range(len(self.samples))
        return self._stages.once(lambda: self._measured(numbers, indices), variant, key="measured")

    def measured_apart(
        self, variant: Variant, folds: Sequence[tuple[Sequence[int], Mapping[TensorKey, np.ndarray]]]
    ) -> Measured:
        """Return the files of a variant whose biases are corrected by samples other than those that it is measured on.

        Args:
            variant: the variant.
            folds: (which samples are measured, channel means of others).
        """
        each = np.zeros(len(self.samples))
        for indices, means in folds:
            apart = self._measured(lambda means=means: self.numbers(variant, means), indices)  # type: ignore[misc]
            if apart.problem:
                return apart
            each[list(indices)] = apart.each
        return Measured(tuple(each.tolist()))

    def scored(self, variant: Variant, score: Score) -> tuple[float, ...]:
        """Judge the file of a variant by any metric.

        Args:
            variant: the variant.
            score: (the file's outputs for one sample in output order, which of `samples` it is) -> a figure, better
                when higher.

        Returns:
            One figure for each sample; `WORST` where it is NaN, or where the file cannot be run.
        """
        figures = [score(outputs, n) for n, outputs in enumerate(self.outputs(variant))]
        return tuple(nan_as_worst(figure) for figure in figures) or (WORST,) * len(self.samples)

    def outputs(self, variant: Variant) -> list[list[np.ndarray]]:
        """Return the outputs of a variant's file for every sample, decoded to float; empty where it cannot be run."""

        def run() -> list[list[np.ndarray]]:
            try:
                quantized = self.numbers(variant).quantized
                main = quantized.graph.main
                rows = self._run(quantized, self.samples, main.outputs, at_a_time=len(self.samples))
                return [
                    [row[t] if t in row else np.asarray(main.tensors[t].data) for t in main.outputs] for row in rows
                ]
            except TfqError:  # whatever it is, such a file is not handed over
                return []

        return self._stages.once(run, variant, key="outputs")

    def tensors(self, variant: Variant) -> Mapping[int, float]:
        """Return tensor of the quantized graph -> SQNR in dB of what its file holds there, over a few samples.

        Raises:
            TfqError: the file cannot be run.
        """
        quantized = self.numbers(variant).quantized
        graph = quantized.graph
        computed = [t for op in graph.main.ops for t in op.outputs if graph.main.tensors[t].dtype == "float32"]
        sums: dict[int, ErrorSums] = {}
        few = self.samples[:INSIDE]
        for sample, in_file in zip(few, self._run(quantized, few, computed, at_a_time=1), strict=True):

            def see(t: int, value: np.ndarray, in_file: Mapping[int, np.ndarray] = in_file) -> None:
                if t in in_file and np.isfinite(value).all():
                    mine = in_file[t].reshape(value.shape)
                    error = ErrorSums.of(value, mine) if np.isfinite(mine).all() else ErrorSums(noise=math.nan)
                    sums[t] = sums.get(t, ErrorSums()) + error

            float_run(graph, [sample], None, 0, see, self._threads)
        return {t: nan_as_worst(total.sqnr_db) for t, total in sums.items()}

    def _measured(self, numbers: Callable[[], Numbers], indices: Sequence[int]) -> Measured:
        try:
            quantized = numbers().quantized
            judges = judged(quantized.graph)
            outputs = quantized.graph.main.outputs
            tensors = [*(judge.tensor for judge in judges), *outputs]
            runs = [*self._run(quantized, [self.samples[n] for n in indices], tensors, at_a_time=len(self.samples))]
        except TfqError as error:  # whatever it is, such a file is not handed over
            return Measured((WORST,) * len(indices), str(error))
        each, apart = [], [Apart(use) for use in uses(self.model)]
        for n, values in zip(indices, runs, strict=True):
            pairs = [
                self._pair(n, k, judge, t, values) for k, (judge, t) in enumerate(zip(judges, outputs, strict=True))
            ]
            usual = [self._energies[k][0 if judge.tensor in values else 1] for k, judge in enumerate(judges)]
            each.append(decibels_of([x for x, _ in pairs], [y for _, y in pairs], usual))
            for k, t in enumerate(outputs):
                expected = self._expected[n][k][1]
                if expected.dtype == np.float32 and np.isfinite(expected).all():
                    apart[k] = apart[k].also(expected, values.get(t, expected).reshape(expected.shape))
        return Measured(tuple(each), apart=tuple(apart))

    def _pair(
        self, n: int, k: int, judge: Judged, output: int, values: Mapping[int, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (float values, file's values) of output `k` for sample `n`, as they are compared."""
        scores, plain = self._expected[n][k]
        if judge.tensor in values:
            return judge.seen(scores), judge.seen(values[judge.tensor])
        return plain, values.get(output, plain)  # a constant is no tensor that the file computes

    @property
    def _energies(self) -> list[tuple[float, float]]:
        """The mean energy over samples of what each output is judged by, and of the output itself."""

        def energy(values: np.ndarray) -> float:
            finite = values.dtype == np.float32 and bool(np.isfinite(values).all())
            return float(np.square(values, dtype=np.float64).sum()) if finite else 0.0

        def run() -> list[tuple[float, float]]:
            judges, count = judged(self.model), max(len(self.samples), 1)
            return [
                (
                    sum(energy(judge.seen(row[k][0])) for row in self._expected) / count,
                    sum(energy(row[k][1]) for row in self._expected) / count,
                )
                for k, judge in enumerate(judges)
            ]

        return self._stages.once(run, key="energies")

    def _run(
        self, quantized: QuantizedGraph, samples: Sequence[Sample], wanted: Sequence[int], at_a_time: int
    ) -> Iterator[dict[int, np.ndarray]]:
        """Run the file; for every sample, tensor of the quantized graph -> its decoded value, where the file has it.

        The values of at most `at_a_time` samples are held.
        """
        realized = realize(quantized)
        places: dict[int, tuple[ValueForm, int]] = {}
        for t in dict.fromkeys(wanted):
            for form, index in realized.places.get((0, t), {}).items():
                if not realized.graph.main.tensors[index].is_constant:
                    places.setdefault(t, (form, index))
        shown = [index for _, index in places.values()]
        for start in range(0, len(samples), at_a_time):
            fed = [encoded(quantized, sample) for sample in samples[start : start + at_a_time]]
            for row in self._runs.run(realized.graph, fed, shown):
                yield {t: decoded(value, form) for value, (t, (form, _)) in zip(row, places.items(), strict=True)}

    @property
    def _expected(self) -> list[list[tuple[np.ndarray, np.ndarray]]]:
        """The values that the float model's outputs are judged by, and the outputs, for every sample and output."""

        def run() -> list[list[tuple[np.ndarray, np.ndarray]]]:
            outputs = self.model.main.outputs
            tensors = tuple(dict.fromkeys((*(judge.tensor for judge in judged(self.model)), *outputs)))
            where = {t: k for k, t in enumerate(tensors)}
            rows = self.float_outputs(with_outputs(self.model, tensors))
            pairs = [(where[j.tensor], where[t]) for j, t in zip(judged(self.model), outputs, strict=True)]
            return [[(row[scores], row[output]) for scores, output in pairs] for row in rows]

        return self._stages.once(run, key="expected")

    def float_outputs(self, graph: Graph) -> list[list[np.ndarray]]:
        """Return the outputs of a float graph for every sample."""
        with flatbuffer.scratch(graph) as path:
            runner = Runner(path, threads=self._threads)
        return [runner.run(sample) for sample in self.samples]

    def difference(self, graph: Graph) -> float:
        """Return how far the float outputs of `graph` are from the model's, to the largest value of each."""
        expected = [[output for _, output in row] for row in self._expected]
        largest, moved = [0.0] * len(self.model.main.outputs), [0.0] * len(self.model.main.outputs)
        for before, after in zip(expected, self.float_outputs(graph), strict=True):
            for k, (x, y) in enumerate(zip(before, after, strict=True)):
                if x.dtype == np.float32 and x.size:
                    largest[k] = max(largest[k], float(np.abs(x).max()))
                    moved[k] = float(np.maximum(moved[k], np.abs(x - y).max()))  # keeps NaN, as `max` does not
        shares = [away / max(top, 1e-30) for away, top in zip(moved, largest, strict=True)]
        return math.inf if any(math.isnan(share) for share in shares) else max(shares, default=0.0)

    def channels(self, graph: Graph, tensors: Sequence[int], all_samples: bool) -> dict[int, Channels]:
        """Return what the channels of some activations look like, on the samples that are kept or on all."""
        needs = StatisticsRequest(channels=tuple((0, t) for t in tensors))
        if all_samples:
            statistics = self._calibrated(graph, needs)
        else:
            batches = [Batch(sample, None, n, 1) for n, sample in enumerate(self.samples)]
            statistics = calibrate(graph, batches, needs, self._threads)
        return {t: Channels(*statistics.channels[0, t]) for t in tensors}

    def means(self, variant: Variant) -> list[Statistics]:
        """Return the channel means of the inputs of linear operators, of every sample by itself."""
        graph, _ = self.planned(variant)
        needs = mean_needs(graph)
        return [
            calibrate(graph, [Batch(sample, None, n, 1)], needs, self._threads, side_by_side=False)
            for n, sample in enumerate(self.samples)
        ]


def with_outputs(graph: Graph, tensors: Sequence[int]) -> Graph:
    """Return the graph with other outputs."""
    main = replace(graph.main, outputs=tuple(tensors))
    return replace(graph, subgraphs=(main, *graph.subgraphs[1:]), signatures=())
