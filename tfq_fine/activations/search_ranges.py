"""Observer `auto`: of several ranges of a tensor, the one with the least error in what its readers compute.

An activation is rounded to the candidate range (QUANTIZE, DEQUANTIZE) before the operators that read it, alone,
and their outputs are compared with those of the float model on a few samples. So a value that a reader clips anyway,
or that SOFTMAX does not tell from another, costs nothing, and a bias that clipping leaves in sums costs what it does.
The error of each sample is relative to its outputs and at most 1: a corrupted sample has one vote, however large it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.check import checkable, float_run
from tfq_converters.graph import Float32Array, Graph, Subgraph
from tfq_converters.graph_edit import GraphBuilder, fake_quantized, steps
from tfq_converters.operators import facts_of, lstm
from tfq_converters.runtime import Runner, depends_on_unrunnable, known_part
from tfq_fine.activations.observed_ranges import chosen, requested_specs
from tfq_fine.calibration import OBSERVERS, Extremes, Range, Sample, Statistics, TensorStatistics, drawn, moved_from
from tfq_fine.numerics import Histogram, affine, is_large
from tfq_fine.planning import Plan

AUTO = "auto"
CANDIDATES: tuple[tuple[str, Mapping[str, float]], ...] = (
    ("min_max", {}),
    ("auto", {}),  # without accidents
    ("mse", {}),
)
DIFFERENT = 0.1  # share of the shorter range: ranges that differ by less are one
SAMPLES, SAMPLES_LARGE = 16, 4  # that ranges are compared on, at most; on 8, a few large values are missed too often
COMMON = 0.99  # share of the samples
BETTER = 0.98  # share of the whole range's error that another must stay below, or the whole range is kept


def ranged(
    graph: Graph,
    plan: Plan,
    statistics: Statistics,
    samples: Sequence[Sample],
    threads: int = 1,
    only: AbstractSet[int] | None = None,
) -> Statistics:
    """Return the statistics with the range of every activation as its observer chooses it.

    Args:
        graph: the float graph.
        plan: the decisions on its operators.
        statistics: the statistics of calibration.
        samples: inputs, in input order, that `auto` tries ranges on; without any, it keeps those of
            `observed_ranges.chosen`.
        threads: the number of threads of the interpreter.
        only: the tensors whose ranges are to be chosen, where not all are; no others are counted and tried.

    Raises:
        TfqError: as `observed_ranges.chosen`.
    """
    observed = chosen(graph, plan, statistics, only)
    tensors = auto_tensors(graph, plan, only) if samples else set()
    if not tensors:
        return observed
    few = looked_at(graph, samples)
    histograms = counted(graph, plan, few, threads, only)
    return best_ranges(graph, plan, statistics, observed, few, histograms, threads)


def best_ranges(
    graph: Graph,
    plan: Plan,
    statistics: Statistics,
    known: Statistics,
    samples: Sequence[Sample],
    histograms: Mapping[int, Histogram],
    threads: int = 1,
) -> Statistics:
    """Return `known` with the best range of every activation whose observer is `auto`, and with their histograms.

    Args:
        graph: the float graph.
        plan: the decisions on its operators.
        statistics: ranges and extremes, as calibration found them.
        known: the same with the ranges of the other observers chosen.
        samples: inputs, in input order, that ranges are tried on.
        histograms: the histograms of their values, for the observers that read them; `counted` makes them.
        threads: the number of threads of the interpreter.
    """
    specs, moved = requested_specs(graph, plan), moved_from(graph)
    bits = {t: spec.bits for t, spec in specs.items() if spec.observer == AUTO and t in histograms}
    tensors = {
        t: TensorStatistics(statistics.ranges[0, t], histograms[t], statistics.extremes.get((0, t))) for t in bits
    }
    candidates_of = {t: candidates(tensors[t], bits[t]) for t in bits}
    several = {t: ranges for t, ranges in candidates_of.items() if len(ranges) > 1}
    errors = _errors(graph, several, bits, samples, threads)
    best = {t: _best(ranges, errors[t]) for t, ranges in several.items()}
    whole = {t: statistics.ranges[0, t] for t in bits} | best
    shared = {t: whole[source] for t, source in moved.items() if source in whole and specs.get(t) == specs.get(source)}
    ranges = {(0, t): candidates_of for t, candidates_of in {**whole, **shared}.items()}
    counts = {(0, t): histogram for t, histogram in histograms.items()}
    return replace(known.with_ranges(ranges), histograms={**counts, **known.histograms})


def looked_at(graph: Graph, samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return the samples that ranges are tried on: as good as drawn at random (`kept_samples`)."""
    return samples[: number_of_samples(graph)]


def counted(
    graph: Graph,
    plan: Plan,
    samples: Sequence[Sample],
    threads: int = 1,
    only: AbstractSet[int] | None = None,
) -> dict[int, Histogram]:
    """Return histograms, over a few samples, of the tensors whose observer is `auto`.

    Args:
        graph: the float graph.
        plan: the decisions on its operators.
        samples: inputs, in input order.
        threads: the number of threads of the interpreter.
        only: see `ranged`.
    """
    tensors = auto_tensors(graph, plan, only)
    samples_of: dict[int, list[Float32Array]] = {t: [] for t in tensors}

    def see(t: int, value: Float32Array) -> None:
        if t in tensors:
            samples_of[t].append(drawn(value))

    for sample in samples:
        for t, value in zip(graph.main.inputs, sample, strict=True):
            see(t, value)
    float_run(graph, samples, None, 0, see, threads)
    return {t: Histogram.of(np.concatenate(rows)) for t, rows in samples_of.items() if rows}


def auto_tensors(graph: Graph, plan: Plan, only: AbstractSet[int] | None = None) -> set[int]:
    """Return the tensors that `auto` chooses ranges for, each also for those that hold its values."""
    moved = moved_from(graph)
    tensors = {t for t, spec in requested_specs(graph, plan).items() if spec.observer == AUTO and t not in moved}
    if only is not None:
        tensors &= {moved.get(t, t) for t in only}
    tensors -= depends_on_unrunnable(graph)
    return tensors - {
        t for op in graph.main.ops if op.code == lstm.CODE for t in op.outputs
    }  # its next steps read them


def number_of_samples(graph: Graph) -> int:
    """Return how many samples ranges are compared on, where there are so many."""
    return SAMPLES_LARGE if is_large(graph) else SAMPLES


def candidates(tensor: TensorStatistics, bits: int) -> list[Range]:
    """Return the ranges that the observers choose, the whole one first; near duplicates are dropped."""
    ranges: list[Range] = []
    common = tensor.range if tensor.extremes is None else _common(tensor.extremes).intersection(tensor.within().range)
    for name, options in CANDIDATES:
        candidate = OBSERVERS[name].choose(tensor, bits, {**OBSERVERS[name].options, **options})
        candidate = candidate.union(common).intersection(tensor.range)
        if not any(_differ_little(candidate, other) for other in ranges):
            ranges.append(candidate)
    return ranges


def _common(extremes: Extremes) -> Range:
    """Return the range that all but a few samples stay within: what the few that are looked at may not show."""
    return Range(-extremes.low.negated().quantile(COMMON), extremes.high.quantile(COMMON))


def _differ_little(a: Range, b: Range) -> bool:
    return abs(a.low - b.low) + abs(a.high - b.high) <= DIFFERENT * min(a.extent, b.extent)


def _best(ranges: Sequence[Range], errors: Sequence[float]) -> Range:
    best = int(np.argmin(errors))
    return ranges[best] if errors[best] < BETTER * errors[0] else ranges[0]


def _errors(
    graph: Graph,
    ranges: Mapping[int, Sequence[Range]],
    bits: Mapping[int, int],
    samples: Sequence[Sample],
    threads: int,
) -> dict[int, list[float]]:
    """Return tensor -> mean relative squared error, at most 1, over samples and readers, for each of its ranges."""
    trial = _Trial(known_part(graph).main)
    measured = [(t, n, *pair) for t, each in ranges.items() for n, pair in trial.measured(t, each, bits[t])]
    errors = {t: [list[float]() for _ in each] for t, each in ranges.items()}
    if measured:
        runner = trial.runner(graph, [piece for _, _, *pair in measured for piece in pair], threads)
        relative = []
        for sample in samples:
            runner.reset_variables()
            error, energy = runner.run(sample)[0].astype(np.float64).reshape(-1, 2).T
            with np.errstate(divide="ignore", invalid="ignore"):
                relative.append(np.minimum(np.nan_to_num(error / energy, nan=0.0), 1.0))
        for (t, n, _, _), value in zip(measured, np.mean(relative, axis=0).tolist(), strict=True):
            errors[t][n].append(value)
    return {t: [float(np.mean(values)) if values else 0.0 for values in each] for t, each in errors.items()}


class _Trial:
    """The float graph, with every reader of some tensors once more, over the rounded tensor."""

    def __init__(self, main: Subgraph):
        self.main = main
        self.builder = GraphBuilder(main.tensors, main.ops)
        self._energies: dict[int, int] = {}

    def measured(self, t: int, ranges: Sequence[Range], bits: int) -> Iterator[tuple[int, tuple[int, int]]]:
        """Return (which range, (squared error of one output of a reader, its mean square)), as tensors here."""
        if not self.main.tensors[t].shape:
            return
        for n, limits in enumerate(ranges):
            rounded = fake_quantized(self.builder, t, affine.activation_encoding(*limits, bits))
            for before, after in self._again({t: rounded}) or [(t, rounded)]:
                error = steps.mean_square(self.builder, steps.difference(self.builder, after, before))
                yield n, (error, self._energy(before))

    def runner(self, graph: Graph, pieces: list[int], threads: int) -> Runner:
        """Return a runner that computes `pieces`, single values, in one row."""
        main = self.builder.subgraph(self.main, outputs=[steps.packed(self.builder, pieces)])
        trial = replace(graph, subgraphs=(main, *graph.subgraphs[1:]), signatures=())
        with flatbuffer.scratch(trial) as path:
            return Runner(path, threads=threads)

    def _again(self, replaced: dict[int, int]) -> list[tuple[int, int]]:
        """Return (output, the same over the rounded tensor) for all that read it, moved or not."""
        pairs = []
        readers = self.main.consumers()
        ((original, rounded),) = replaced.items()
        for o in dict.fromkeys(o for o, _ in readers.get(original, [])):
            op = self.main.ops[o]
            if facts_of(op.code).control_flow or not checkable(self.main, op):
                continue
            again = self.builder.again(replace(op, inputs=tuple(rounded if t == original else t for t in op.inputs)))
            for before, after in zip(op.outputs, again, strict=True):
                if facts_of(op.code).within_input and before in readers:
                    pairs += self._again({before: after})
                elif self.main.tensors[before].dtype == "float32":
                    pairs.append((before, after))
        return pairs

    def _energy(self, t: int) -> int:
        if t not in self._energies:
            self._energies[t] = steps.mean_square(self.builder, t)
        return self._energies[t]
