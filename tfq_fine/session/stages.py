"""The stages between a float graph and a file, one function each: values in, values out."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from tfq_converters import kernels
from tfq_converters.check import Checked, encoded
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_converters.kernels import DEFAULT_RUNTIMES, Target
from tfq_converters.quantized import OpKey, QuantizedGraph
from tfq_converters.reading import Source
from tfq_converters.runtime import FileRuns, apart, float_seconds, unrunnable_names
from tfq_converters.writer import Written
from tfq_fine.activations import integer_borders, left_float, with_implied, without_range
from tfq_fine.calibration import (
    CalibrationResult,
    Range,
    Representative,
    Sample,
    Statistics,
    StatisticsRequest,
)
from tfq_fine.layers import Overrides
from tfq_fine.numerics import is_large
from tfq_fine.planning import Plan, Policy, Prefer
from tfq_fine.report import LayerError, QuantizationReport, TransformRow, Verdict, activation_rows, summarize
from tfq_fine.request import Quality, Recipe, named
from tfq_fine.session.effort import requested_specs
from tfq_fine.session.signatures import not_quantized
from tfq_fine.session.verdict import verdict_on
from tfq_fine.variants import (
    Numbers,
    RequestedSpecs,
    Settings,
    SplitSamples,
    Trial,
    Variant,
    choose_numbers,
    choose_ranges,
    fold_and_plan,
    number_of_samples,
    rewriting,
    too_large,
    transformed,
    untransformed,
    with_fitted_weights,
)
from tfq_fine.verification import LAYER_SAMPLES, activation_errors
from tfq_fine.weights import Fitting, fits_weights, plan_needs

SLOWER = 1.1  # times float, above which users are told: less is noise


@dataclass(frozen=True)
class QuantizationRequest:
    """The request of a caller: recipe, policy, transforms and types of inputs and outputs."""

    recipe: Recipe
    policy: Policy
    transforms: tuple[str, ...] = ()
    input_type: str = "float32"
    output_type: str = "float32"
    quality: Quality = "balanced"

    @property
    def has_integer_borders(self) -> bool:
        """Whether an input or output of the file is to be quantized, whatever the recipe says."""
        return {self.input_type, self.output_type} != {"float32"}

    def border_tensors(self, graph: Graph) -> set[int]:
        """Return the float inputs and outputs that become integers."""
        return set(integer_borders(graph, self.input_type, self.output_type))

    @property
    def no_islands(self) -> bool:
        """Whether nothing may go through float for speed: for a compiler, or between integer borders."""
        borders = self.input_type != "float32" and self.output_type != "float32"
        return self.policy.target.compiles or borders


@dataclass(frozen=True)
class PlannedModel:
    """The model as it was read, and what is planned for it before anything is transformed."""

    request: QuantizationRequest
    source: Graph  # as it was read
    requested: RequestedSpecs  # the specs of its operators
    graph: Graph  # with the factors of blocks folded
    plan: Plan
    policy: Policy
    overrides: Overrides | None  # the numbers of wrappers

    @property
    def is_static(self) -> bool:
        """Whether ranges of activations are needed."""
        return bool(self.plan.integer_ops) or self.request.has_integer_borders

    @cached_property
    def needs(self) -> StatisticsRequest | None:
        """The statistics that must be gathered from the data; None when there are none."""
        needs = plan_needs(self.graph, self.plan, self.is_static, self.open if self.is_static else None)
        return None if not self.is_static and needs == StatisticsRequest() else needs

    @cached_property
    def known(self) -> dict[int, Range]:
        """Tensor -> range, of those that wrappers hold and of those that follow."""
        held = {t: limits for (_, t), limits in self.overrides.ranges.items()} if self.overrides else {}
        return with_implied(self.graph, self.plan.integer_ops, held) if held else {}

    @cached_property
    def open(self) -> frozenset[int] | None:
        """The tensors whose ranges the data tells; None for all."""
        if not self.known:
            return None
        borders = self.request.border_tensors(self.graph)
        return frozenset(without_range(self.graph, self.plan.integer_ops, self.known)) | (borders - set(self.known))

    def require_ranges(self) -> None:
        """Raise unless every range is known without data.

        Raises:
            TfqError: the recipe is static, and the model does not hold all of its ranges: those tensors are named.
        """
        if not self.is_static or self.open == frozenset():
            return
        request = self.request
        static = f"recipe {request.recipe.name!r} is static and needs representative data"
        borders = f"input type {request.input_type} and output type {request.output_type} need representative data"
        need = f"{static if self.plan.integer_ops else borders}: give data=..."
        if self.open is None:
            raise TfqError(f"{need}, or statistics=...")
        names = ", ".join(self.graph.main.tensors[t].name for t in sorted(self.open))
        raise TfqError(f"{need}; the model itself has no range for {names}")

    @cached_property
    def calibrated(self) -> Graph:
        """The graph that the data runs through; ranges are those of the weights that wrappers simulate."""
        return self.overrides.simulated(self.graph) if self.overrides else self.graph

    def settings(self, fitting: Fitting) -> Settings:
        """Return the settings that all ways to quantize this model share."""
        request = self.request
        return Settings(self.policy, request.no_islands, request.input_type, request.output_type, fitting)


@dataclass(frozen=True)
class Decided:
    """The numbers that were chosen for the file, and how it came to them."""

    graph: Graph  # that is quantized, which may be transformed
    numbers: Numbers
    statistics: Statistics | None  # the statistics of that graph
    rows: tuple[TransformRow, ...] = ()


def with_observer(recipe: str | Recipe, observer: str | None) -> Recipe:
    """Return the recipe of that name, with one observer for all activations where there is one."""
    return named(recipe) if observer is None else named(recipe).with_observer(observer)


def policy_of(recipe: Recipe, prefer: Prefer, target: Target, fallback: bool | None = None) -> Policy:
    """Return who decides where kernels do not compute the request; the recipe does if `fallback` is None."""
    flexible = recipe.flexible and not target.compiles
    return Policy(prefer, flexible if fallback is None else fallback, target)


def prepare(
    request: QuantizationRequest,
    source: Source,
    data: Representative,
    statistics: Statistics | None,
    overrides: Overrides | None,
) -> PlannedModel:
    """Plan the graph.

    Args:
        request: the request of the caller.
        source: the float model.
        data: representative samples.
        statistics: the statistics of an earlier calibration, which hold for the unchanged graph.
        overrides: the numbers of wrappers, which hold for the unchanged graph, too.

    Raises:
        TfqError: the request is impossible, or a static recipe gets no data.
    """
    graph, policy = source.graph, request.policy
    has_samples = data.is_given or (statistics is not None and bool(statistics.kept))
    requested = requested_specs(request.recipe, graph, source.layers, request.quality, has_samples)
    if overrides:
        _, plan = fold_and_plan(graph, requested | dict.fromkeys(overrides.requested, None), policy, fold=False)
        plan, policy = overrides.merged(graph, plan, policy), replace(policy, prefer="size")
    else:
        graph, plan = fold_and_plan(graph, requested, policy, fold=statistics is None)
    prepared = PlannedModel(request, source.graph, requested, graph, plan, policy, overrides)
    if not data.is_given and statistics is None:
        prepared.require_ranges()
    return prepared


def gathered(
    prepared: PlannedModel,
    data: Representative,
    statistics: Statistics | None,
    advance: Callable[[int], None] | None,
    folder: Path,
) -> CalibrationResult:
    """Read the data: what the plan needs to know of it, unless there are statistics, and a few samples."""
    if statistics is not None and statistics.kept:
        return CalibrationResult(statistics, statistics.kept)
    again = not prepared.overrides and bool(rewriting(prepared.request.transforms))
    needs = prepared.needs if statistics is None else None
    result = data.gather(prepared.calibrated, needs, advance, folder if again else None)
    return result if statistics is None else replace(result, statistics=statistics)


def decide(
    prepared: PlannedModel,
    data: Representative,
    statistics: Statistics | None,
    given: bool,
    samples: Sequence[Sample],
    files: FileRuns,
    fitting: Fitting,
) -> Decided:
    """Choose transforms, islands and all numbers.

    Args:
        prepared: the model and its plan.
        data: representative samples, which are read again for a graph that a transform rewrites.
        statistics: the statistics of `prepared.calibrated`; None where nothing had to be known.
        given: whether the statistics are those of an earlier calibration, and hold for the unchanged model.
        samples: a few samples.
        files: the process that runs the files of variants.
        fitting: who sees how far the fitting of weights is, and codes on disk.

    Raises:
        TfqError: the statistics are of another model, or do not hold what an observer reads.
    """
    names = prepared.request.transforms
    why = _not_measured(prepared, samples)
    if why:
        plain = untransformed(prepared.source, prepared.requested, names, why)
        rows = plain.rows if data.is_given or statistics else ()
        numbers = _unmeasured(prepared, statistics, samples, plain.variant.bounded_masks, fitting)
        return Decided(prepared.graph, numbers, statistics, rows)
    fits = fits_weights(prepared.plan)
    once = _read_once(data, statistics, given)
    trial = Trial(
        prepared.source,
        prepared.settings(fitting),
        lambda graph, needs: _calibrated(data, graph, needs),
        SplitSamples.of(prepared.source, samples, fits),
        files,
        data.reading.threads,
        fold=not given,
        fresh=given and not statistics.kept if statistics is not None else False,
    )
    trial.know(Variant(prepared.source, prepared.requested), prepared.graph, prepared.plan, statistics or Statistics())
    left = tuple(name for name in names if not (once and rewriting([name])))
    selection = transformed(prepared.source, prepared.requested, left, trial)
    rows = (*(TransformRow(str(name), False, once) for name in names if name not in left), *selection.rows)
    best = selection.variant
    if fits:
        best, row = with_fitted_weights(best, trial)
        rows = (*rows, row)
    whole = None if statistics is None else trial.whole(best)
    return Decided(trial.planned(best)[0], trial.numbers(best), whole, rows)


def _not_measured(prepared: PlannedModel, samples: Sequence[Sample]) -> str:
    """Return why no ways to quantize the model can be compared; "" when they can."""
    graph = prepared.source
    variables = any(t.is_variable or t.dtype == "resource" for subgraph in graph.subgraphs for t in subgraph.tensors)
    reasons = {
        "the wrappers hold numbers of the unchanged model": prepared.overrides is not None,
        "there is no data to measure it on": not samples,
        "the model keeps state between samples": variables,
        "no runtime here executes all of the model": bool(unrunnable_names(graph)),
        "kernels may unpack all of a model of this size": too_large(graph),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _read_once(data: Representative, statistics: Statistics | None, given: bool) -> str:
    """Return why the ranges of a rewritten graph cannot be found; "" when they can."""
    reasons = {
        "the statistics hold for the unchanged model": given,
        "there is a shard that can be read only once": data.is_read_once,
        "calibration was interrupted": statistics is not None and statistics.is_interrupted,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _calibrated(data: Representative, graph: Graph, needs: StatisticsRequest) -> Statistics:
    statistics = data.gather(graph, needs).requested
    if statistics.is_interrupted:  # ranges of a part of the data decide nothing
        raise KeyboardInterrupt
    return statistics


def _unmeasured(
    prepared: PlannedModel,
    statistics: Statistics | None,
    samples: Sequence[Sample],
    bounded_masks: bool,
    fitting: Fitting,
) -> Numbers:
    """Return the numbers of a model of which no variants are compared."""
    graph, overrides = prepared.graph, prepared.overrides
    masks = bounded_masks and statistics is not None  # how far scores reach is seen alone
    statistics_in_file = _ranged(prepared, statistics, samples) if prepared.is_static else statistics
    corrected = frozenset(prepared.plan) if overrides else frozenset[OpKey]()
    variant = Variant(prepared.source, prepared.requested, masks, corrected, fitted=bool(samples))
    adjusted = partial(overrides.with_ranges, graph) if overrides else None
    codes = overrides.codes if overrides else None
    return choose_numbers(
        graph,
        prepared.plan,
        statistics_in_file,
        prepared.settings(fitting),
        variant,
        given=codes,
        adjusted=adjusted,
        samples=SplitSamples.of(graph, samples, fits_weights(prepared.plan)),
    )


def _ranged(prepared: PlannedModel, statistics: Statistics | None, samples: Sequence[Sample]) -> Statistics | None:
    """Return the statistics with the ranges that the observers choose. Ranges that wrappers hold are theirs."""
    own = {(0, t): limits for t, limits in prepared.known.items()}
    if statistics is None:
        return Statistics(ranges=own)
    best = choose_ranges(prepared.calibrated, prepared.plan, statistics, samples, prepared.open)
    return best.with_ranges(own)


def measured_layers(
    quantized: QuantizedGraph, emitted: Graph, samples: Sequence[Sample], timeout: float | None
) -> tuple[LayerError, ...]:
    """Return the error of every layer on the first samples; nothing where the model cannot be run as a whole.

    Args:
        quantized: the numbers of the file; the float values are those of its graph, which transforms may have changed.
        emitted: the graph of the file.
        samples: inputs of the float model, in input order.
        timeout: seconds that one run may take; None: as in `quantize`.
    """
    model = quantized.graph
    if unrunnable_names(model) or too_large(model):
        return ()
    few = [([*sample], encoded(quantized, sample)) for sample in samples[:LAYER_SAMPLES]]
    with apart(timeout) as elsewhere:
        limit = elsewhere.limit(float_seconds(model, 1))
        return activation_errors(model, emitted, few, elsewhere=elsewhere, limits=(limit, limit))


def judged_file(
    model: Graph,
    quantized: QuantizedGraph,
    emitted: Graph,
    samples: Sequence[Sample],
    files: FileRuns,
    generated: bool,
    threads: int,
) -> Verdict | None:
    """Compare the finished file with the float model (`verdict`); None where it cannot be run as a whole.

    Raises:
        TfqError: an output is not finite where the float model's is.
    """
    if unrunnable_names(model) or too_large(model):
        return None
    few = samples[: number_of_samples(model)] if is_large(model) else samples
    return verdict_on(model, quantized, emitted, few, files, generated, threads)


def reported(
    prepared: PlannedModel, source: Source, decided: Decided, written: Written, verdict: Verdict | None, generated: bool
) -> QuantizationReport:
    """Report what was done, and what the file's run showed.

    Args:
        prepared: the model and its plan.
        source: the float model.
        decided: the numbers of the file.
        written: the file.
        verdict: the verdict of the file; None where it could not be run as a whole.
        generated: whether the file was run on generated inputs.
    """
    numbers, overrides, statistics = decided.numbers, prepared.overrides, decided.statistics
    graph, plan = decided.graph, numbers.plan
    warnings = () if statistics is None else statistics.warnings
    raised = overrides.changed(numbers.quantized) if overrides else []
    target = prepared.policy.target
    notes = (
        *source.notes,
        *warnings,
        *raised,
        *_notes(graph, plan, written.checked),
        *left_float(graph, prepared.request.output_type),
        *not_quantized(graph, prepared.is_static),
        *_slow(graph, plan, target),
        *_meant_for(target),
    )
    statistics_in_file = numbers.known if prepared.is_static else None
    rows = activation_rows(graph, plan, statistics, statistics_in_file) if statistics and statistics_in_file else ()
    name, size = prepared.request.recipe.name, _size(source.content)
    report = summarize(numbers.quantized, plan, written, name, size, notes, rows, decided.rows)
    return replace(report, verdict=verdict, generated=generated)


def _notes(graph: Graph, plan: Plan, checked: Checked) -> list[str]:
    """Return what a user should know of the file and of its check."""
    notes = []
    if 16 in plan.integer_ops.values():
        notes.append("16-bit activations run on slow kernels on CPUs: expect the file to be slower than float")
    if unrunnable_names(graph):
        names = ", ".join(unrunnable_names(graph))
        notes.append(f"{names}: no runtime here executes them; they stay float, and only what is around them was run")
    if any(decision.form == "blockwise" for decision in plan.values()):
        notes.append(
            "the reference kernels skip blockwise weights without a word: the file was run on the default and the "
            "optimized kernels, which compute them"
        )
    elif "reference" not in checked.kernels:
        ran = " and ".join(checked.kernels)
        notes.append(f"the reference kernels refuse the float model too; the file was run on {ran}")
    if checked.parts > 1:
        notes.append(
            f"kernels unpack its weights to float, so that it was run in {checked.parts} parts, one after the other"
        )
    return notes


def _slow(graph: Graph, plan: Plan, target: Target) -> list[str]:
    """Note that weights below 8 bits which become float in the file deny their readers fast kernels."""
    ratios: dict[str, float] = {}
    for (s, o), decision in plan.items():
        if decision.form == "dequantize" and decision.spec and decision.spec.weights:
            op, bits = graph.subgraphs[s].ops[o], decision.spec.weights.stored_bits
            form = kernels.cell_form(op, graph.subgraphs[s])
            run = kernels.status(op.code, "weight_only", bits, "per_channel", "litert", form, target.measured)
            if bits < 8 and run.ratio is not None:
                ratios[op.code] = max(run.ratio, ratios.get(op.code, 0.0))
    slower = [f"{code} {ratio:.1f}" for code, ratio in sorted(ratios.items()) if ratio > SLOWER]
    if not slower:
        return []
    return [
        "weights below 8 bits in mode weight_only are read by no fast kernel; measured times as multiples of the float "
        f"operator's: {', '.join(slower)}. 8 bits, or mode dynamic, is as fast as float or faster"
    ]


def _meant_for(target: Target) -> list[str]:
    if target.runtimes == DEFAULT_RUNTIMES:
        return []
    return [f"meant for {', '.join(target.runtimes)}, by the kernel table; it was run here on LiteRT"]


def _size(content: bytes | str) -> int:
    return os.path.getsize(content) if isinstance(content, str) else len(content)
