"""What happens between a float graph and a file, one function per stage: values in, values out."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from tfq_converters import flatbuffer, kernels
from tfq_converters.child_runs import Runs
from tfq_converters.errors import TfqError
from tfq_converters.float_run import FloatRun
from tfq_converters.graph import Graph
from tfq_converters.kernels import DEFAULT_RUNTIMES, Target
from tfq_converters.quantized import QuantizedGraph
from tfq_converters.reading.reader import Source
from tfq_converters.run_check import Checked
from tfq_converters.unrunnable import unrunnable_names
from tfq_converters.writer import Written
from tfq_fine import automatic
from tfq_fine.borders import integer_borders, left_float
from tfq_fine.calibration import Gathered, mean_needs
from tfq_fine.encodings import integer_ops
from tfq_fine.implied_ranges import with_implied, without_range
from tfq_fine.layers.export import Given
from tfq_fine.observation import Needs
from tfq_fine.placement import place
from tfq_fine.plan import Plan, Policy, Prefer
from tfq_fine.presets import named
from tfq_fine.quantizer import corrects_biases, quantize
from tfq_fine.recipe import Recipe
from tfq_fine.repairs import number_of_samples, repaired, without_repairs
from tfq_fine.report.activations import activation_rows
from tfq_fine.report.quantization import QuantizationReport, RepairRow
from tfq_fine.representative import Representative
from tfq_fine.sampling import Sample
from tfq_fine.signatures import not_quantized
from tfq_fine.statistics import Range, Statistics
from tfq_fine.summary import summarize
from tfq_fine.trial import planned, static_needs

SLOWER = 1.1  # times float, above which users are told: less is noise


@dataclass(frozen=True)
class Order:
    """What a caller asked for."""

    recipe: Recipe
    policy: Policy
    repairs: tuple[str, ...] = ()
    input_type: str = "float32"
    output_type: str = "float32"

    @property
    def has_integer_borders(self) -> bool:
        """Whether an input or output of the file is to be quantized, whatever the recipe says."""
        return {self.input_type, self.output_type} != {"float32"}

    def border_tensors(self, graph: Graph) -> set[int]:
        """The float inputs and outputs that become integers."""
        return set(integer_borders(graph, self.input_type, self.output_type))

    @property
    def no_islands(self) -> bool:
        """Whether nothing may go through float for speed: for a compiler, or between integer borders."""
        borders = self.input_type != "float32" and self.output_type != "float32"
        return self.policy.target.compiles or borders


@dataclass(frozen=True)
class Prepared:
    """The graph that is going to be quantized, repaired, and what is planned for it."""

    order: Order
    graph: Graph
    plan: Plan
    policy: Policy
    bounded_masks: bool
    rows: tuple[RepairRow, ...]
    own: Given | None  # the numbers of wrappers

    @property
    def is_static(self) -> bool:
        """Whether ranges of activations are needed."""
        return bool(integer_ops(self.plan)) or self.order.has_integer_borders

    @property
    def needs(self) -> Needs | None:
        """What must be known of the data; None when that is nothing."""
        if self.is_static:
            return static_needs(self.graph, self.plan, self.open)
        return mean_needs(self.graph) if corrects_biases(self.graph, self.plan) else None

    @cached_property
    def known(self) -> dict[int, Range]:
        """Tensor -> range, of those that wrappers hold and of those that follow."""
        held = {t: found for (_, t), found in self.own.ranges.items()} if self.own else {}
        return with_implied(self.graph, integer_ops(self.plan), held) if held else {}

    @cached_property
    def open(self) -> frozenset[int] | None:
        """The tensors whose ranges the data tells; None for all."""
        if not self.known:
            return None
        borders = self.order.border_tensors(self.graph)
        return frozenset(without_range(self.graph, integer_ops(self.plan), self.known)) | (borders - set(self.known))

    def require_ranges(self) -> None:
        """Raise unless every range is known without data.

        Raises:
            TfqError: the recipe is static, and the model does not hold all of its ranges: those tensors are named.
        """
        if not self.is_static or self.open == frozenset():
            return
        order = self.order
        static = f"recipe {order.recipe.name!r} is static and needs representative data"
        borders = f"input type {order.input_type} and output type {order.output_type} need representative data"
        found = f"{static if integer_ops(self.plan) else borders}: give data=..."
        if self.open is None:
            raise TfqError(f"{found}, or statistics=...")
        names = ", ".join(self.graph.main.tensors[t].name for t in sorted(self.open))
        raise TfqError(f"{found}; the model itself holds no range of {names}")

    @cached_property
    def calibrated(self) -> Graph:
        """What the data is run through: ranges are those of the weights that wrappers simulate."""
        return self.own.simulated(self.graph) if self.own else self.graph

    @property
    def uses_auto(self) -> bool:
        """Whether ranges are chosen by observer `auto`."""
        return self.is_static and bool(automatic.auto_tensors(self.graph, self.plan, self.open))


@dataclass(frozen=True)
class Numbers:
    """All that will be in the file."""

    quantized: QuantizedGraph
    plan: Plan
    known: Statistics | None  # with the ranges that were chosen
    seen: FloatRun | None  # the run of the float model that showed more


def with_observer(recipe: str | Recipe, observer: str | None) -> Recipe:
    """The recipe of that name, with one observer for all activations where there is one."""
    return named(recipe) if observer is None else named(recipe).with_observer(observer)


def policy_of(recipe: Recipe, prefer: Prefer, target: Target, fallback: bool | None = None) -> Policy:
    """Who decides where kernels do not compute what is asked for; a recipe says it where `fallback` is None."""
    flexible = recipe.flexible and not target.compiles
    return Policy(prefer, flexible if fallback is None else fallback, target)


def prepare(
    order: Order, source: Source, data: Representative, statistics: Statistics | None, own: Given | None
) -> Prepared:
    """Plan the graph, repair it where that was measured to help, and plan again.

    Args:
        order: what was asked for.
        source: the float model.
        data: representative samples; the first ones are looked at.
        statistics: of an earlier calibration, which hold for the graph as it is.
        own: the numbers of wrappers, which hold for it too.

    Raises:
        TfqError: what is asked for is impossible, or a static recipe gets no data.
    """
    graph, policy = source.graph, order.policy
    asked = order.recipe.resolve(graph, source.layers)
    if own:
        _, plan = planned(graph, asked | dict.fromkeys(own.asked, None), policy, fold=False)
        plan, policy = own.merged(graph, plan, policy), replace(policy, prefer="size")
    else:
        graph, plan = planned(graph, asked, policy, fold=statistics is None)
    if not data.is_given and statistics is None:
        Prepared(order, graph, plan, policy, False, (), own).require_ranges()
    why = _not_repaired(source.graph, data, statistics, own is not None)
    if why:
        mended = without_repairs(source.graph, asked, order.repairs, why)
    else:
        first = partial(data.first, source.graph, number_of_samples(source.graph))
        mended = repaired(source.graph, asked, order.repairs, policy, order.no_islands, first, data.reading.threads)
    if not own and (mended.graph is not source.graph or mended.asked is not asked):
        graph, plan = planned(mended.graph, mended.asked, policy, fold=statistics is None)
    rows = mended.rows if data.is_given or statistics else ()
    return Prepared(order, graph, plan, policy, mended.bounded_masks, rows, own)


def _not_repaired(graph: Graph, data: Representative, statistics: Statistics | None, wrapped: bool) -> str:
    """Why nothing can be measured beforehand; "" when it can."""
    variables = any(t.is_variable or t.dtype == "resource" for subgraph in graph.subgraphs for t in subgraph.tensors)
    reasons = {
        "the wrappers hold numbers of the model as it is": wrapped,
        "the statistics hold for the model as it is": statistics is not None,
        "there is no data to measure it on": not data.is_given,
        "there is a shard that can be read only once": data.is_read_once,
        "the model keeps state between samples": variables,
        "no runtime here executes all of the model": bool(unrunnable_names(graph)),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def gathered(
    prepared: Prepared, data: Representative, statistics: Statistics | None, advance: Callable[[int], None] | None
) -> Gathered:
    """Read the data: what the plan needs to know of it, unless there are statistics, and a few samples."""
    kept = automatic.number_of_samples(prepared.graph) if prepared.uses_auto else 1
    found = data.gather(prepared.calibrated, prepared.needs if statistics is None else None, kept, advance)
    return found if statistics is None else replace(found, statistics=statistics)


def choose_numbers(prepared: Prepared, statistics: Statistics | None, samples: Sequence[Sample], runs: Runs) -> Numbers:
    """Ranges, places, codes, scales.

    Raises:
        TfqError: the statistics are of another model, or do not hold what an observer reads.
    """
    graph, own = prepared.graph, prepared.own
    masks = prepared.bounded_masks and statistics is not None  # how far scores reach is seen alone
    known, seen = _ranged(prepared, statistics, samples, runs) if prepared.is_static else (statistics, None)
    flatbuffer.forget_pages(trim=True)
    plan = place(graph, prepared.plan, known, prepared.policy, prepared.order.no_islands, masks)
    known = own.with_ranges(graph, plan, known) if own and known else known
    borders = prepared.order.input_type, prepared.order.output_type
    quantized = quantize(graph, plan, known, *borders, masks, own.codes if own else None)
    return Numbers(quantized, plan, known, seen)


def _ranged(
    prepared: Prepared, statistics: Statistics | None, samples: Sequence[Sample], runs: Runs
) -> tuple[Statistics | None, FloatRun | None]:
    """The statistics with the ranges that the observers choose, and the run of the float model that showed more.

    Ranges that wrappers hold are theirs.
    """
    own = {(0, t): found for t, found in prepared.known.items()}
    if statistics is None:
        return Statistics(ranges=own), None
    graph, plan = prepared.calibrated, prepared.plan
    statistics.require_of(graph)
    best, seen = automatic.ranged(graph, plan, statistics, samples, runs, prepared.open)
    return best.with_ranges(own), None if prepared.own else seen


def reported(
    prepared: Prepared, source: Source, numbers: Numbers, statistics: Statistics | None, written: Written
) -> QuantizationReport:
    """What was done, and what the file's run showed."""
    graph, plan, own = prepared.graph, numbers.plan, prepared.own
    warnings = () if statistics is None else statistics.warnings
    raised = own.changed(numbers.quantized) if own else []
    target = prepared.policy.target
    notes = (
        *source.notes,
        *warnings,
        *raised,
        *_notes(graph, plan, written.checked),
        *left_float(graph, prepared.order.output_type),
        *not_quantized(graph, prepared.is_static),
        *_slow(graph, plan, target),
        *_meant_for(target),
    )
    known = numbers.known if prepared.is_static else None
    rows = activation_rows(graph, plan, statistics, known) if statistics and known else ()
    name, size = prepared.order.recipe.name, _size(source.content)
    return summarize(numbers.quantized, plan, written, name, size, notes, rows, prepared.rows)


def _notes(graph: Graph, plan: Plan, checked: Checked) -> list[str]:
    """What a user should know of the file and of its check."""
    found = []
    if 16 in integer_ops(plan).values():
        found.append("16-bit activations run on slow kernels on CPUs: expect the file to be slower than float")
    if unrunnable_names(graph):
        names = ", ".join(unrunnable_names(graph))
        found.append(f"{names}: no runtime here executes them; they stay float, and only what is around them was run")
    if any(decision.form == "blockwise" for decision in plan.values()):
        found.append(
            "the reference kernels skip blockwise weights without a word: the file was run on the default and the "
            "optimized kernels, which compute them"
        )
    elif "reference" not in checked.kernels:
        ran = " and ".join(checked.kernels)
        found.append(f"the reference kernels refuse the float model too; the file was run on {ran}")
    if checked.parts > 1:
        found.append(
            f"kernels unpack its weights to float, so that it was run in {checked.parts} parts, one after the other"
        )
    return found


def _slow(graph: Graph, plan: Plan, target: Target) -> list[str]:
    """That weights below 8 bits which are made float in the file keep fast kernels from their readers."""
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
        "weights below 8 bits that DEQUANTIZE makes float are read by no fast kernel, which took, times as long as in "
        f"float: {', '.join(slower)}; 8 bits, or mode dynamic, is as fast as float or faster"
    ]


def _meant_for(target: Target) -> list[str]:
    if target.runtimes == DEFAULT_RUNTIMES:
        return []
    return [f"meant for {', '.join(target.runtimes)}, by the kernel table; it was run here on LiteRT"]


def _size(content: bytes | str) -> int:
    return os.path.getsize(content) if isinstance(content, str) else len(content)
