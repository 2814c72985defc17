"""Ways to quantize a model, each measured on the file that it would give.

A variant is quantized with the same function and from the same statistics as the file that a user gets
(`numbers.choose_numbers`: ranges over all samples), written, and run in a process of its own on some of the samples.
So kernels, the on-the-fly rounding of dynamic-range inputs, and errors on their way through the model all count.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from tfq_converters.check import decoded, encoded, float_run, nan_as_worst
from tfq_converters.errors import TfqError
from tfq_converters.graph import AnyArray, Float32Array, Float64Array, Graph
from tfq_converters.quantized import QuantizedGraph, TensorKey
from tfq_converters.realize import ValueForm, realize
from tfq_converters.runtime import FileRuns
from tfq_fine.calibration import Sample
from tfq_fine.numerics import ErrorSums
from tfq_fine.variants.float_reference import FloatReference
from tfq_fine.variants.judging import WORST, Apart, Measured, judged, uses
from tfq_fine.variants.numbers import Numbers, Settings
from tfq_fine.variants.sample_count import SplitSamples
from tfq_fine.variants.variant import Variant
from tfq_fine.variants.variant_numbers import Calibrated, VariantNumbers

Score = Callable[[Sequence[AnyArray], int], float]
INSIDE = 4  # samples of which all tensors of a file are looked at


class Trial(VariantNumbers):
    """The variants of one model, each measured once.

    Args:
        model: see `VariantNumbers`.
        settings: see `VariantNumbers`.
        calibrated: see `VariantNumbers`.
        samples: see `VariantNumbers`.
        runs: the process that runs the files.
        threads: see `VariantNumbers`.
        fold: see `VariantNumbers`.
        fresh: whether the samples are others than those that the statistics are of.
    """

    def __init__(
        self,
        model: Graph,
        settings: Settings,
        calibrated: Calibrated,
        samples: SplitSamples,
        runs: FileRuns,
        threads: int = 1,
        fold: bool = True,
        fresh: bool = False,
    ):
        super().__init__(model, settings, calibrated, samples, threads, fold)
        self.fresh, self._runs = fresh, runs
        self.reference = FloatReference(model, self.samples, threads)

    def on_all_apart(self) -> "Trial":
        """Return a trial of these variants on all samples that no weight is fitted to."""
        other = copy.copy(self)
        other.samples = self._split.apart
        other.reference = FloatReference(self.model, other.samples, self._threads)
        return other

    def measured(self, variant: Variant) -> Measured:
        """Run the file of a variant on the samples."""
        return self._cache.once(
            lambda: self.measure(partial(self.numbers, variant)), variant, self.samples, key="measured"
        )

    def measure(self, numbers: Callable[[], Numbers]) -> Measured:
        """Run the file of any numbers for the model on the samples; errors in choosing them are reported, too."""
        return self._measured(numbers, range(len(self.samples)))

    def measured_apart(
        self, variant: Variant, folds: Sequence[tuple[Sequence[int], Mapping[TensorKey, Float64Array]]]
    ) -> Measured:
        """Return the files of a variant whose biases are corrected by samples other than those that it is measured on.

        Args:
            variant: the variant.
            folds: (which samples are measured, channel means of others, float64 [channels] each).
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

    def outputs(self, variant: Variant) -> list[list[AnyArray]]:
        """Return the outputs of a variant's file for every sample, decoded to float; empty where it cannot be run.

        Each has the shape of the float model's output.
        """

        def run() -> list[list[AnyArray]]:
            try:
                quantized = self.numbers(variant).quantized
                main = quantized.graph.main
                rows = self._run(quantized, self.samples, main.outputs, at_a_time=len(self.samples))
                return [
                    [row[t] if t in row else np.asarray(main.tensors[t].data) for t in main.outputs] for row in rows
                ]
            except TfqError:  # whatever it is, such a file is not handed over
                return []

        return self._cache.once(run, variant, key="outputs")

    def tensors(self, variant: Variant) -> Mapping[int, float]:
        """Return tensor of the quantized graph -> SQNR in dB of what its file holds there, over a few samples.

        Raises:
            TfqError: the file cannot be run.
        """
        sums = self.inside(self.numbers(variant).quantized)
        return {t: nan_as_worst(total.sqnr_db) for t, total in sums.items()}

    def inside(self, quantized: QuantizedGraph) -> dict[int, ErrorSums]:
        """Return tensor of the quantized graph -> the errors of what its file holds there, over a few samples.

        Raises:
            TfqError: the file cannot be run.
        """
        graph = quantized.graph
        computed = [t for op in graph.main.ops for t in op.outputs if graph.main.tensors[t].dtype == "float32"]
        sums: dict[int, ErrorSums] = {}
        few = self.samples[:INSIDE]
        for sample, in_file in zip(few, self._run(quantized, few, computed, at_a_time=1), strict=True):

            def see(t: int, value: Float32Array, in_file: Mapping[int, AnyArray] = in_file) -> None:
                if t in in_file and np.isfinite(value).all():
                    mine = in_file[t].reshape(value.shape)
                    error = ErrorSums.of(value, mine) if np.isfinite(mine).all() else ErrorSums(noise=math.nan)
                    sums[t] = sums.get(t, ErrorSums()) + error

            float_run(graph, [sample], None, 0, see, self._threads)
        return sums

    def values(self, quantized: QuantizedGraph, tensors: Sequence[int]) -> list[dict[int, AnyArray]]:
        """Return, for every sample, tensor of the quantized graph -> what its file holds there, decoded.

        Raises:
            TfqError: the file cannot be run.
        """
        return [*self._run(quantized, self.samples, tensors, at_a_time=len(self.samples))]

    def _measured(self, numbers: Callable[[], Numbers], indices: Sequence[int]) -> Measured:
        try:
            quantized = numbers().quantized
            outputs = quantized.graph.main.outputs
            expected = replace(self.reference.outputs, judges=tuple(judged(quantized.graph)), tensors=outputs)
            tensors = [*(judge.tensor for judge in expected.judges), *outputs]
            runs = [*self._run(quantized, [self.samples[n] for n in indices], tensors, at_a_time=len(self.samples))]
        except TfqError as error:  # whatever it is, such a file is not handed over
            return Measured((WORST,) * len(indices), str(error))
        each, apart = [], [Apart(use) for use in uses(self.model)]
        for n, values in zip(indices, runs, strict=True):
            each.append(expected.decibels(n, values))
            for k, t in enumerate(outputs):
                plain = expected.expected[n][k][1]
                if plain.dtype == np.float32 and np.isfinite(plain).all():
                    apart[k] = apart[k].also(plain, values.get(t, plain).reshape(plain.shape))
        return Measured(tuple(each), apart=tuple(apart))

    def _run(
        self, quantized: QuantizedGraph, samples: Sequence[Sample], wanted: Sequence[int], at_a_time: int
    ) -> Iterator[dict[int, AnyArray]]:
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
