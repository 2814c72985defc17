"""The numbers of variants: each graph is calibrated once, each plan placed once, each weight solved once."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfq_converters.check import float_run
from tfq_converters.graph import Float32Array, Float64Array, Graph, IdentityCache
from tfq_converters.quantized import TensorKey
from tfq_fine.calibration import Statistics, StatisticsRequest, calibrate, calibrate_each, mean_needs
from tfq_fine.data import Batch
from tfq_fine.planning import Plan, Policy, make_plan
from tfq_fine.transforms import Channels, InputMoments, factor_blocks
from tfq_fine.variants.numbers import Numbers, Settings, choose_numbers, choose_ranges
from tfq_fine.variants.sample_count import SplitSamples
from tfq_fine.variants.variant import RequestedSpecs, Variant
from tfq_fine.weights import plan_needs

MOST_FOR_MOMENTS = 32  # samples
Calibrated = Callable[[Graph, StatisticsRequest], Statistics]  # what all samples show of a graph


def fold_and_plan(graph: Graph, requested: RequestedSpecs, policy: Policy, fold: bool = True) -> tuple[Graph, Plan]:
    """Return the graph with the factors of blocks folded, unless statistics hold for the original one, and its plan."""
    if not fold:
        return graph, make_plan(graph, requested, policy)
    factored = factor_blocks(graph, requested)
    return factored.graph, make_plan(factored.graph, requested, policy, factored.notes, factored.kept)


class VariantNumbers:
    """The variants of one model, each planned, calibrated and quantized once.

    Args:
        model: the float model.
        settings: the settings of the job.
        calibrated: gathers the statistics of all samples for a graph; called once for every graph.
        samples: a few of them, inputs in input order, and those that weights are fitted to.
        threads: the number of threads of the interpreter that runs the float model.
        fold: the factors of blocks are folded into the graph; not where statistics hold for the unchanged graph.
    """

    def __init__(
        self,
        model: Graph,
        settings: Settings,
        calibrated: Calibrated,
        samples: SplitSamples,
        threads: int = 1,
        fold: bool = True,
    ):
        self.model, self.settings, self.fold = model, settings, fold
        self.samples, self._split = samples.tried, samples
        self._calibrated, self._threads = calibrated, threads
        self._cache = IdentityCache()

    @property
    def counts(self) -> list[int]:
        """The number of samples of the data in each of the samples: batches hold several."""
        sizes = [{len(array) if array.ndim else 1 for array in sample} for sample in self.samples]
        return [size.pop() if len(size) == 1 else 1 for size in sizes]

    @property
    def _batches(self) -> list[Batch]:
        return [Batch(sample, None, n, 1) for n, sample in enumerate(self.samples)]

    def planned(self, variant: Variant) -> tuple[Graph, Plan]:
        """Return the graph that is quantized, and what every operator gets."""
        graph, requested, policy = variant.graph, variant.requested, self.settings.policy
        return self._cache.once(
            lambda: fold_and_plan(graph, requested, policy, self.fold), graph, requested, key="plan"
        )

    def know(self, variant: Variant, graph: Graph, plan: Plan, statistics: Statistics) -> None:
        """Take over what was planned and calibrated for a variant."""
        self._cache.once(lambda: (graph, plan), variant.graph, variant.requested, key="plan")
        self._cache.once(lambda: statistics, graph, key=("statistics", self._is_static(plan)))

    def _is_static(self, plan: Plan) -> bool:
        borders = {self.settings.input_type, self.settings.output_type}
        return bool(plan.integer_ops) or borders != {"float32"}

    def whole(self, variant: Variant) -> Statistics:
        """Return what all samples show of the variant's graph."""
        graph, plan = self.planned(variant)
        static = self._is_static(plan)

        def calibrated() -> Statistics:
            return self._calibrated(graph, plan_needs(graph, plan, static))

        return self._cache.once(calibrated, graph, key=("statistics", static))

    def statistics(self, variant: Variant) -> Statistics:
        """Return the statistics of the variant's graph with the ranges that the observers choose."""
        graph, plan = self.planned(variant)
        whole = self.whole(variant)
        if not self._is_static(plan):
            return whole
        ops = tuple(sorted(plan.integer_ops.items()))
        return self._cache.once(
            lambda: choose_ranges(graph, plan, whole, self._split.tried), graph, key=("ranges", ops)
        )

    def numbers(self, variant: Variant, means: Mapping[TensorKey, Float64Array] | None = None) -> Numbers:
        """Return all that would be in the file.

        Where `means` are given, float64 [channels] each, biases are corrected by them, not by those of all samples.
        """
        if means is None:
            return self._cache.once(lambda: self._numbers(variant, None), variant, key="numbers")
        return self._numbers(variant, means)

    def _numbers(self, variant: Variant, means: Mapping[TensorKey, Float64Array] | None) -> Numbers:
        graph, plan = self.planned(variant)
        ranges, cache, samples = self.statistics(variant), self._cache, self._split
        return choose_numbers(graph, plan, ranges, self.settings, variant, cache=cache, samples=samples, means=means)

    def channels(self, graph: Graph, tensors: Sequence[int], all_samples: bool) -> dict[int, Channels]:
        """Return what the channels of some activations look like, on the samples that are kept or on all."""
        by_tensor: dict[int, Channels] = self._cache.once(dict, graph, key=("channels", all_samples))
        missing = [t for t in tensors if t not in by_tensor]
        needs = StatisticsRequest(channels=tuple((0, t) for t in missing))
        if missing:
            read = self._calibrated if all_samples else self._on_samples
            limits = read(graph, needs).channels
            by_tensor |= {t: Channels(*limits[0, t]) for t in missing}
        return {t: by_tensor[t] for t in tensors}

    def _on_samples(self, graph: Graph, needs: StatisticsRequest) -> Statistics:
        return calibrate(graph, self._batches, needs, self._threads)

    def moments(self, graph: Graph, tensors: Sequence[int]) -> dict[int, InputMoments]:
        """Return the moments of the channels of some activations, on samples that weights may be fitted to."""
        sums: dict[int, InputMoments] = {}

        def see(t: int, values: Float32Array) -> None:
            if t in read and np.isfinite(values).all():
                moments = InputMoments.of(values)
                sums[t] = sums[t].plus(moments) if t in sums else moments

        read = frozenset(tensors)
        float_run(graph, self._split.fitted[:MOST_FOR_MOMENTS], None, 0, see, self._threads)
        return sums

    def means(self, variant: Variant) -> list[Statistics]:
        """Return the channel means of the inputs of linear operators, of every sample by itself."""
        graph, _ = self.planned(variant)
        return calibrate_each(graph, self._batches, mean_needs(graph), self._threads)
