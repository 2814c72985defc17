"""`quantize`: the stages in order, nothing else."""

import os
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from tfq_converters import flatbuffer
from tfq_converters.child_runs import Runs, waiting
from tfq_converters.errors import TfqError
from tfq_converters.float_run import FloatRun
from tfq_converters.graph import Graph
from tfq_converters.kernel_table import load
from tfq_converters.kernels import DEFAULT_RUNTIMES, Target
from tfq_converters.quantized import QuantizedGraph
from tfq_converters.reading import read_model
from tfq_converters.run_check import Checked
from tfq_converters.unrunnable import unrunnable_names
from tfq_converters.writer import write
from tfq_fine import automatic
from tfq_fine.calibration import (
    OnInvalid,
    algorithm_needs,
    mean_needs,
)
from tfq_fine.encodings import integer_ops
from tfq_fine.layers.calibration import calibrate_wrappers
from tfq_fine.layers.export import wrapped_model
from tfq_fine.layers.wrapped import wrappers
from tfq_fine.observation import Needs
from tfq_fine.placement import place
from tfq_fine.plan import OnUnsupported, Plan, Policy, Prefer, make_plan
from tfq_fine.presets import named
from tfq_fine.progress import stages
from tfq_fine.quantizer import corrects_biases
from tfq_fine.quantizer import quantize as choose_numbers
from tfq_fine.ranges import chosen
from tfq_fine.recipe import Recipe
from tfq_fine.repairs import chosen_repairs, number_of_samples, repaired, without_repairs
from tfq_fine.report.activations import activation_rows
from tfq_fine.report.quantization import QuantizationReport
from tfq_fine.representative import Representative
from tfq_fine.sampling import Sample, generated_inputs, other_inputs
from tfq_fine.statistics import Statistics
from tfq_fine.summary import summarize
from tfq_fine.tfmot.qat import qat_model
from tfq_fine.trial import planned, static_needs

DEFAULT = "dynamic_int8"  # recipe


@dataclass(frozen=True)
class Result:
    """A file that has been run, and all that led to it."""

    report: QuantizationReport
    graph: Graph  # of the file
    quantized: QuantizedGraph  # the numbers in it
    plan: Plan
    statistics: Statistics | None  # of `quantized.graph`, which may be repaired; `calibrate` gives those of the model
    held: bytes | None = field(default=None, repr=False)  # the content, unless it is large

    @property
    def content(self) -> bytes:
        """The bytes of the file; of a large one, which is not held, made anew at each call."""
        return flatbuffer.write(self.graph) if self.held is None else self.held

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file to `path`, beside and renamed.

        Raises:
            TfqError: the path cannot be written.
        """
        flatbuffer.save_pieces(flatbuffer.pieces(self.graph) if self.held is None else iter([self.held]), path)


def quantize(
    model: Any,
    recipe: str | Recipe | None = None,
    data: Any = None,
    *,
    input_type: str = "float32",
    output_type: str = "float32",
    prefer: Prefer = "speed",
    runtimes: str | Sequence[str] = DEFAULT_RUNTIMES,
    on_unsupported: OnUnsupported | None = None,
    kernels: str | os.PathLike[str] | None = None,
    observer: str | None = None,
    repairs: str | Sequence[str] | None = "auto",
    num_samples: int | None = None,
    batch_size: int = 1,
    on_invalid: OnInvalid = "error",
    statistics: Statistics | None = None,
    executor: Executor | None = None,
    shards: int | None = None,
    threads: int | None = None,
    progress: bool | None = None,
    safe_mode: bool = True,
) -> Result:
    """Quantize a Keras model, a SavedModel folder or a float `.tflite`, and run what came out.

    Ctrl-C while the data is read ends the reading: what was gathered is used, and the report says so.

    Args:
        model: a Keras 3 or tf_keras model; a path to `.keras`, `.h5`, `.tflite` or a SavedModel folder; or the bytes
            of a float `.tflite`. A model that holds `FineQuantize` layers is written as they simulate it: their specs,
            scales and ranges come before those of `recipe`, `prefer` and `data`.
        recipe: name of a preset (`tfq_fine.RECIPES`), or a `Recipe`; None is dynamic_int8, or for a wrapped model what
            it was annotated with.
        data: representative samples, in any form that `tfq_fine.data` documents; needed by static recipes, and by
            bias correction in the others.
        input_type: type of the file's float inputs: float32, int8, uint8 or int16.
        output_type: type of its float outputs.
        prefer: "speed" keeps an operator float, or at 8 bits, where its quantized kernel is slower; "size" does not.
        runtimes: where the file must run: "litert", "litert-reference", "tflite", "tflite-reference", "tflite-micro",
            "ethos-u" (the compiler Vela), "openvino", "tosa"; docs/runtimes.md says which recipe is for which.
        on_unsupported: what to do where a kernel of one of them does not compute the weights that are asked for:
            "error" lists all such operators and what works, "fallback" takes more bits or a coarser granularity, and
            reports it. None: what the recipe says; presets of less than 8 bits fall back, but not for a compiler.
        kernels: path of a kernel table of another machine or release (`tfq-fine kernels --probe --output`).
        observer: how the ranges of all activations are chosen (`tfq_fine.observers`), in place of what the recipe
            says: "min_max", "percentile:percentile=99.9", "auto" ...
        repairs: changes of the float graph, or of ranges, that make it easier to quantize (`tfq_fine.repairs`): "auto"
            for all, some by name, or None. Each is kept where it lowers the error of the outputs on the first
            samples; the report has a line on each.
        num_samples: read at most this many samples of `data` (of each shard).
        batch_size: samples per run of the interpreter during calibration.
        on_invalid: a sample with NaN or infinity, or on which the model computes one, is an "error", or is to "skip":
            left out and counted.
        statistics: of an earlier calibration (`tfq_fine.calibrate`), instead of `data`. They hold for the model as it
            is, so that no scales of blocks are folded into what makes their inputs, and nothing is repaired in it.
        executor: any `concurrent.futures.Executor`, which reads and runs the shards of the data: `data` is a list of
            shards then, or a function of a shard's index.
        shards: how many there are, where `data` is a function.
        threads: of the interpreter during calibration; all cores when None, and one with an executor.
        progress: show what is being done on stderr; when None, if that is a terminal.
        safe_mode: refuse Keras files that would run code by being opened.

    Returns:
        The file's bytes, the report, and every intermediate.

    Raises:
        TfqError: bad input, an impossible request, or a file that does not compute what its numbers say.
    """
    wrapped = qat_model(model) or wrapped_model(model, safe_mode)
    chosen_recipe = _recipe(recipe or (wrapped.recipe if wrapped else DEFAULT), observer)
    target = Target(
        (runtimes,) if isinstance(runtimes, str) else tuple(runtimes), None if kernels is None else load(kernels)
    )
    names = chosen_repairs(repairs)
    material = Representative(data, num_samples, batch_size, on_invalid, threads, executor, shards)
    with stages(progress) as shown, waiting() as runs:  # it starts while calibration runs
        with shown.stage("reading the model"):
            source = read_model(wrapped.model if wrapped else model, safe_mode=safe_mode)
        graph = source.graph
        flexible = chosen_recipe.flexible and not target.compiles
        policy = Policy(prefer, flexible if on_unsupported is None else on_unsupported == "fallback", target)
        wanted = chosen_recipe.resolve(graph, source.layers)
        own = wrapped.given(graph) if wrapped else None
        fixed = _not_repaired(graph, material, statistics, wrapped is not None)
        if own:
            _, plan = planned(graph, wanted | dict.fromkeys(own.asked, None), policy, fold=False)
            plan, policy = own.merged(graph, plan, policy), replace(policy, prefer="size")
        else:
            graph, plan = planned(graph, wanted, policy, fold=statistics is None)  # they are of this graph
        static = bool(integer_ops(plan)) or {input_type, output_type} != {"float32"}
        if static and not material.is_given and statistics is None:
            raise TfqError(
                f"recipe {chosen_recipe.name!r} is static and needs representative data: "
                "give data=..., or statistics=..."
            )
        no_islands = target.compiles or (input_type != "float32" and output_type != "float32")
        with shown.stage("repairing"):
            first = partial(material.first, source.graph, number_of_samples(source.graph))
            mended = (
                without_repairs(source.graph, wanted, names, fixed)
                if fixed
                else repaired(source.graph, wanted, names, policy, no_islands, first, material.reading.threads)
            )
            if not own and (mended.graph is not source.graph or mended.asked is not wanted):
                graph, plan = planned(mended.graph, mended.asked, policy, fold=statistics is None)
        samples: tuple[Sample, ...] = ()
        if material.is_given:
            needs = _needs(graph, plan, static) if statistics is None else None
            kept = automatic.number_of_samples(graph) if static and automatic.uses_auto(graph, plan) else 1
            with shown.stage("calibrating", material.count) as advance:
                found = material.gather(graph, needs, kept, advance)
            statistics, samples = statistics or found.statistics, found.samples
        flatbuffer.forget_pages(trim=True)
        with shown.stage("choosing the numbers"):
            known, seen = _ranged(graph, plan, statistics, samples, runs) if static else (statistics, None)
            flatbuffer.forget_pages(trim=True)
            plan = place(graph, plan, known, policy, no_islands, mended.bounded_masks)
            known = own.with_ranges(graph, plan, known) if own else known
            codes = own.codes if own else None
            quantized = choose_numbers(graph, plan, known, input_type, output_type, mended.bounded_masks, codes)
        flatbuffer.forget_pages(trim=True)
        with shown.stage("running the file"):
            sample = samples[0] if samples else generated_inputs(graph)
            written = write(quantized, [sample], other_inputs(graph), runs, seen)
    flatbuffer.forget_pages(trim=True)
    warnings = () if statistics is None else statistics.warnings
    raised = own.changed(quantized) if own else []
    notes = (*source.notes, *warnings, *raised, *_notes(graph, plan, written.checked), *_meant_for(target))
    rows = activation_rows(graph, plan, statistics, known) if static and statistics and known else ()
    lines = mended.rows if samples or statistics else ()
    report = summarize(quantized, plan, written, chosen_recipe.name, _size(source.content), notes, rows, lines)
    return Result(report, written.graph, quantized, plan, statistics, written.content)


def calibrate(
    model: Any,
    data: Any,
    recipe: str | Recipe = "full_int8",
    *,
    observer: str | None = None,
    also: Sequence[str] = (),
    resume: Statistics | None = None,
    num_samples: int | None = None,
    batch_size: int = 1,
    on_invalid: OnInvalid = "error",
    executor: Executor | None = None,
    shards: int | None = None,
    threads: int | None = None,
    progress: bool | None = None,
    safe_mode: bool = True,
) -> Statistics:
    """Run a float model on representative data and keep what a recipe needs to know of its activations.

    Ctrl-C ends the reading: what was gathered is returned, with a warning.

    Args:
        model: as `quantize` takes it.
        data: as `quantize` takes it.
        recipe: whose observers say what is needed.
        observer: one for all activations, in place of the recipe's.
        also: statistics that algorithms read, of every linear operator: "channel_absmax", "second_moment"
            ("channel_mean" is always there). Second moments take memory: 8 bytes times the square of the inputs of
            each operator.
        resume: statistics of an earlier calibration of the same model, which these samples are added to.
        num_samples: read at most this many samples (of each shard).
        batch_size: samples per run of the interpreter.
        on_invalid: see `quantize`.
        executor: see `quantize`.
        shards: see `quantize`.
        threads: see `quantize`.
        progress: see `quantize`.
        safe_mode: see `quantize`.

    Returns:
        A value that merges, saves, loads, prints as a table, and that `quantize(statistics=...)` takes. Of a model
        that holds `FineQuantize` layers, whose scales and ranges are set, nothing but the number of samples.

    Raises:
        TfqError: bad input, or statistics of another model.
    """
    if wrappers(model):
        return Statistics(samples=calibrate_wrappers(model, data, samples=num_samples))
    chosen_recipe = _recipe(recipe, observer)
    material = Representative(data, num_samples, batch_size, on_invalid, threads, executor, shards)
    with stages(progress) as shown:
        with shown.stage("reading the model"):
            source = read_model(model, safe_mode=safe_mode)
        graph = source.graph
        plan = make_plan(graph, chosen_recipe.resolve(graph, source.layers), Policy("speed", True, Target()))
        if resume is not None:
            resume.require_of(graph)
        needs = static_needs(graph, plan).also(algorithm_needs(graph, also))
        with shown.stage("calibrating", material.count) as advance:
            found = material.gather(graph, needs, advance=advance).statistics
    assert found is not None
    return found if resume is None else resume.merge(found)


def _recipe(recipe: str | Recipe, observer: str | None) -> Recipe:
    return named(recipe) if observer is None else named(recipe).with_observer(observer)


def _needs(graph: Graph, plan: Plan, static: bool) -> Needs | None:
    """What the plan needs to know of the data; None when that is nothing."""
    if static:
        return static_needs(graph, plan)
    return mean_needs(graph) if corrects_biases(graph, plan) else None


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


def _ranged(
    graph: Graph, plan: Plan, statistics: Statistics | None, samples: Sequence[Sample], runs: Runs
) -> tuple[Statistics | None, FloatRun | None]:
    """The statistics with the ranges that the observers choose, and the run of the float model that showed more."""
    if statistics is None:
        return None, None
    statistics.require_of(graph)
    known = chosen(graph, plan, statistics)
    if not samples or not automatic.uses_auto(graph, plan):
        return known, None
    threads = os.cpu_count() or 1
    few = automatic.looked_at(graph, samples)
    histograms, seen = automatic.counted(graph, plan, few, threads, runs)
    return automatic.best_ranges(graph, plan, statistics, known, few, histograms, threads), seen


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


def _meant_for(target: Target) -> list[str]:
    if target.runtimes == DEFAULT_RUNTIMES:
        return []
    return [f"meant for {', '.join(target.runtimes)}, by the kernel table; it was run here on LiteRT"]


def _size(content: bytes | str) -> int:
    return os.path.getsize(content) if isinstance(content, str) else len(content)
