"""`quantize`: the stages in order, nothing else."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, get_args

from tfq_converters import flatbuffer
from tfq_converters.brief import brief
from tfq_converters.errors import TfqError, extras_named, printable
from tfq_converters.files import Place, write_file
from tfq_converters.graph import Graph
from tfq_converters.kernels import DEFAULT_RUNTIMES, Target, load
from tfq_converters.quantized import QuantizedGraph
from tfq_converters.reading import Source
from tfq_converters.runtime import FileRuns, Runs, check_timeout, file_runs, waiting
from tfq_converters.writer import write
from tfq_fine.calibration import (
    CalibrationData,
    OnInvalid,
    Representative,
    Sample,
    Statistics,
    algorithm_needs,
    by_signature,
    data_warnings,
    each,
    entries,
    generated_inputs,
    matched,
    of_each,
    other_inputs,
    unlike_training,
)
from tfq_fine.devices import device
from tfq_fine.layers import calibrate_wrappers, converted, wrappers
from tfq_fine.planning import OnUnsupported, Plan, Policy, Prefer, make_plan
from tfq_fine.progress import stages
from tfq_fine.report import Provenance, QuantizationReport
from tfq_fine.request import Quality, Recipe, check_options, renamed, type_name
from tfq_fine.session import (
    Decided,
    OpenModel,
    PlannedModel,
    QuantizationRequest,
    decide,
    gathered,
    judged_file,
    measured_layers,
    open_model,
    policy_of,
    prepare,
    reported,
    signatures,
    with_observer,
)
from tfq_fine.variants import chosen_transforms
from tfq_fine.verification import file_size
from tfq_fine.weights import BORDER_TYPES, CodesOnDisk, Fitting, plan_needs

DEFAULT = "dynamic_int8"  # recipe
LOGGER = logging.getLogger("tfq_fine")  # its warnings reach stderr unless the user says otherwise


@dataclass(frozen=True)
class Part:
    """The stages that led to the numbers of one signature."""

    __repr__ = brief

    report: QuantizationReport
    quantized: QuantizedGraph  # the numbers of the signature
    plan: Plan
    statistics: (
        Statistics | None
    )  # those of `quantized.graph`, which transforms may have changed; `calibrate` gives the model's


@dataclass(frozen=True)
class Result:
    """A file that has been run, and all that led to it.

    `quantized`, `plan` and `statistics` are those of the one graph that was quantized. Where each of several signatures
    was, on data by signature, `signatures["encode"].plan` is that of one.
    """

    report: QuantizationReport
    graph: Graph  # the graph of the file
    signatures: Mapping[str, Part]  # all with the same part where the model was quantized as one graph
    held: bytes | None = field(default=None, repr=False)  # the content, unless it is large

    def __repr__(self) -> str:
        return f"Result({self.report.in_brief()})"

    def _repr_html_(self) -> str:
        """Return the page of the report, for a notebook."""
        return self.report._repr_html_()

    @property
    def quantized(self) -> QuantizedGraph:
        """The numbers in the file."""
        return self._only("quantized").quantized

    @property
    def plan(self) -> Plan:
        """The plan of every operator."""
        return self._only("plan").plan

    @property
    def statistics(self) -> Statistics | None:
        """The statistics of `quantized.graph`, which may be transformed; `calibrate` gives those of the model."""
        return self._only("statistics").statistics

    def _only(self, name: str) -> Part:
        first, *others = self.signatures.values()
        if any(part is not first for part in others):
            keys = ", ".join(map(repr, self.signatures))
            example = next(iter(self.signatures))
            raise TfqError(
                f"each of the signatures {keys} has its own {name}; use result.signatures[{example!r}].{name}"
            )
        return first

    @property
    def content(self) -> bytes:
        """The bytes of the file; of a large one, which is not held, made anew at each call."""
        return flatbuffer.write(self.graph) if self.held is None else self.held

    def save(self, place: Place) -> None:
        """Write the file to a path or open descriptor (`tfq_converters.files`).

        Raises:
            TfqError: the place cannot be written.
        """
        write_file(place, flatbuffer.pieces(self.graph) if self.held is None else [self.held])


@renamed(repairs="transforms")
@extras_named()
def quantize(
    model: Any,
    recipe: str | Recipe | None = None,
    data: Any = None,
    *,
    input_type: Any = "float32",
    output_type: Any = "float32",
    prefer: Prefer = "speed",
    runtimes: str | Sequence[str] = DEFAULT_RUNTIMES,
    on_unsupported: OnUnsupported | None = None,
    kernels: str | os.PathLike[str] | None = None,
    observer: str | None = None,
    quality: Quality = "balanced",
    transforms: str | Callable[..., Any] | Sequence[Any] | None = "auto",
    num_samples: int | None = None,
    batch_size: int = 1,
    on_invalid: OnInvalid = "error",
    statistics: Statistics | None = None,
    executor: Executor | None = None,
    shards: int | None = None,
    threads: int | None = None,
    progress: bool | None = None,
    safe_mode: bool = True,
    timeout: float | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    layers: bool = False,
    target: str | None = None,
) -> Result:
    """Quantize a Keras model, a SavedModel folder or a float `.tflite`, and run the resulting file.

    Ctrl-C while the data is read ends the reading: what was gathered is used, and the report says so. Ctrl-C while
    weights are fitted ends that: layers that are done keep their codes.

    Args:
        model: a Keras 3 or tf_keras model; a path to `.keras`, `.h5`, `.tflite` or a SavedModel folder; or the bytes
            of a float `.tflite`. A model that holds `FineQuantize` layers is written as they simulate it: their specs,
            scales and ranges come before those of `recipe`, `prefer` and `data`.
        recipe: name of a preset (`tfq_fine.RECIPES`), or a `Recipe`; None is dynamic_int8, or for a wrapped model what
            it was annotated with.
        data: representative samples, in any form that `tfq_fine.data` documents, or a `CalibrationData`, which also
            says how they are read. Static recipes need them, the others use them for bias correction. They may be read
            more than once; data that can be read only once is kept on disk during the call. For a model of several
            signatures: a dict of such data by signature, or data of the first one, whose operators alone become
            integers then.
        input_type: type of the file's float inputs: "float32", "int8", "uint8" or "int16", or that type of NumPy or
            TensorFlow, such as `np.int8`.
        output_type: type of its float outputs.
        prefer: "speed" keeps an operator float, or at 8 bits, where its quantized kernel is slower; "size" does not.
        runtimes: where the file must run: "litert", "litert-reference", "tflite", "tflite-reference", "tflite-micro",
            "ethos-u" (the compiler Vela), "openvino", "tosa"; docs/runtimes.md says which recipe is for which.
        on_unsupported: what to do where a kernel of one of them does not compute the requested weights:
            "error" lists all such operators and what works, "fallback" takes more bits or a coarser granularity, and
            reports it. None: the recipe decides; presets of less than 8 bits fall back, but not for a compiler.
        kernels: path of a kernel table of another machine or release (`tfq-fine kernels --probe --output`).
        observer: how the ranges of all activations are chosen (`tfq_fine.calibration.observers`), in place of what
            the recipe says: "min_max", "percentile:percentile=99.9", "auto" ...
        transforms: changes of the float graph, or of ranges, that make it easier to quantize
            (`tfq_fine.variants.select_transforms`): "auto" for the default ones and those of the recipe, some by
            name or as objects (docs/algorithms.md), or None. Each is kept where its file is better on some of the
            samples; the report has a line on each, with the reason where it is off.
        quality: how much effort goes into weights below 8 bits whose spec names no algorithm: "fast" reads no data,
            "balanced" fits them to it in about the time of `full_int8` and a minute for 5 million parameters, "best"
            takes minutes, and fits weights of 8 bits, too. Without data all of them are "fast".
        num_samples: read at most this many samples of `data` (of each shard).
        batch_size: samples per run of the interpreter during calibration.
        on_invalid: "error", or "skip" to leave out and count samples that hold NaN or infinity, or on which the model
            computes one.
        statistics: from an earlier calibration (`tfq_fine.calibrate`), instead of `data`; by signature where that was
            calibrated on data by signature. They hold for the unchanged model, so that no scales of blocks are folded
            into the producers of their inputs, and no transform changes the graph; biases and islands are decided on
            the samples that statistics keep.
        executor: any `concurrent.futures.Executor`, which reads and runs the shards of the data: `data` is a list of
            shards then, or a function of a shard's index.
        shards: the number of shards, where `data` is a function.
        threads: threads of the interpreter during calibration; all cores when None, and one with an executor.
        progress: show what is being done on stderr; when None, if that is a terminal.
        safe_mode: refuse Keras files and SavedModels that do more than compute (SECURITY.md).
        timeout: seconds that a run of the finished file may take, in a process of its own, before it is stopped; None:
            60 seconds plus 1000 times the float model's time.
        cache_dir: a folder where the fitted codes of every layer are kept by content, so that a job which was
            interrupted, or whose recipe was changed in its last layers, starts where the layers that it shares with an
            earlier one end; made where it is missing. It holds at most 1 GiB: what was used least recently makes room.
            None keeps nothing.
        layers: whether the report tells each layer's own error from what it inherits, and the error of weights from
            that of activations; takes a few runs more of both files.
        target: a device of `tfq-fine devices`, such as "cortex-m": its recipe, runtimes, types of inputs and outputs
            and `prefer` take the place of those that are left at their defaults.

    Returns:
        A `Result`: the file's bytes, the report, and every intermediate value.

    Raises:
        TfqError: bad input, an impossible request, a file that does not compute what its numbers say, or one whose
            outputs are not finite on samples on which the float model's are.
    """
    input_type, output_type = type_name(input_type), type_name(output_type)
    if target is not None:
        row = device(target)
        recipe = recipe or row.recipe
        runtimes = row.runtimes if runtimes == DEFAULT_RUNTIMES else runtimes
        prefer = row.prefer if prefer == "speed" else prefer
        input_type = row.border if input_type == "float32" else input_type
        output_type = row.border if output_type == "float32" else output_type
    words = {
        "input_type": (input_type, BORDER_TYPES),
        "output_type": (output_type, BORDER_TYPES),
        "prefer": (prefer, get_args(Prefer)),
        "on_unsupported": (on_unsupported or "error", get_args(OnUnsupported)),
        "on_invalid": (on_invalid, get_args(OnInvalid)),
        "quality": (quality, get_args(Quality)),
    }
    check_options(words, {"num_samples": num_samples, "batch_size": batch_size, "shards": shards, "threads": threads})
    check_timeout(timeout)
    samples = CalibrationData.of(data, num_samples, batch_size, on_invalid, threads, executor, shards)
    opened = open_model(model, safe_mode)
    where = Target(
        (runtimes,) if isinstance(runtimes, str) else tuple(runtimes), None if kernels is None else load(kernels)
    )
    chosen = with_observer(recipe or opened.recipe or DEFAULT, observer)
    fallback = None if on_unsupported is None else on_unsupported == "fallback"
    policy = policy_of(chosen, prefer, where, fallback)
    names = chosen_transforms(transforms, chosen.transforms)
    request = QuantizationRequest(chosen, policy, names, input_type, output_type, quality)
    on_disk = None if cache_dir is None else CodesOnDisk(cache_dir)
    result = _quantized(opened, request, samples, statistics, _Way(timeout, progress, on_disk, layers))
    origin = Provenance.of(model, samples.data if statistics is None else statistics)
    return replace(result, report=replace(result.report, provenance=origin))


@dataclass(frozen=True)
class _Way:
    """Limits and progress of a job, codes on disk, and whether layers are measured. None of it changes the file."""

    timeout: float | None
    progress: bool | None
    on_disk: CodesOnDisk | None
    layers: bool


def _quantized(
    opened: OpenModel,
    request: QuantizationRequest,
    given: CalibrationData,
    statistics: Statistics | None,
    way: _Way,
) -> Result:
    """Run the stages of one job, or of one job for each signature where the data is by signature."""
    material = Representative(given)
    with stages(way.progress) as shown, waiting(way.timeout) as runs, file_runs(way.timeout) as files:
        with shown.stage("reading the model"):  # `runs` starts meanwhile
            source, overrides = opened.read(material.shapes)
        every = of_each(source.graph, given.data, statistics)
        if every is not None:
            return _of_signatures(source, request, given, every, way)
        prepared = prepare(request, source, material, statistics, overrides)
        is_earlier, samples = statistics is not None, statistics.kept if statistics else ()
        if material.is_given:
            with shown.stage("calibrating", material.count) as advance:
                result = gathered(prepared, material, statistics, advance, files.folder)
            statistics, samples = result.statistics, result.samples
        flatbuffer.forget_pages(trim=True)
        with shown.stage("choosing the numbers"):
            fitting = Fitting(partial(shown.steps, "fitting weights"), way.on_disk)
            decided = decide(prepared, material, statistics, is_earlier, samples, files, fitting)
        flatbuffer.forget_pages(trim=True)
        with shown.stage("running the file"):
            made = emitted(prepared, source, decided, statistics, samples, runs, files, material.reading.threads)
        part, report = next(iter(made.signatures.values())), made.report
        if way.layers:
            with shown.stage("measuring layers"):
                run_samples = samples or (generated_inputs(part.quantized.graph),)
                errors = measured_layers(part.quantized, made.graph, run_samples, way.timeout)
            report = replace(report, layers=errors)
    if way.on_disk is not None:
        report = replace(report, notes=(*report.notes, *way.on_disk.taken_notes()))
    for warning in report.warnings:
        LOGGER.warning(printable(warning))
    return replace(made, report=report, signatures=dict.fromkeys(made.signatures, replace(part, report=report)))


def emitted(
    prepared: PlannedModel,
    source: Source,
    decided: Decided,
    statistics: Statistics | None,
    samples: Sequence[Sample],
    runs: Runs,
    files: FileRuns,
    threads: int,
) -> Result:
    """Write the file of the numbers that were chosen, run it, and compare it with the float model.

    Args:
        prepared: the model and its plan.
        source: the float model.
        decided: the numbers of the file.
        statistics: those of the float model on all the data; None where none were needed.
        samples: samples that it is run on; inputs are generated where there are none.
        runs: the process that checks the file.
        files: the process that runs it on the samples.
        threads: the number of threads of the interpreter that runs the float model.

    Raises:
        TfqError: the file does not compute what its numbers say, or its outputs are not finite.
    """
    quantized, generated = decided.numbers.quantized, not samples
    run_samples = samples or (generated_inputs(quantized.graph),)
    written = write(quantized, [run_samples[0]], other_inputs(quantized.graph), runs)
    verdict = judged_file(source.graph, quantized, written.graph, run_samples, files, generated, threads)
    flatbuffer.forget_pages(trim=True)
    report = reported(prepared, source, decided, written, verdict, generated)
    warnings = data_warnings(prepared.graph, quantized, statistics, samples)
    unlike = () if generated or prepared.overrides else unlike_training(source, samples)
    report = replace(report, warnings=(*warnings, *unlike, *report.poor_outputs()))
    part = Part(report, quantized, decided.numbers.plan, decided.statistics)
    keys = entries(written.graph).values() or ("",)  # a file may have no signatures
    return Result(report, written.graph, dict.fromkeys(keys, part), written.content)


def _of_signatures(
    source: Source,
    request: QuantizationRequest,
    given: CalibrationData,
    every: Mapping[str, tuple[Any, Statistics | None]],
    way: _Way,
) -> Result:
    """Quantize each signature as a model of its own, and join the files."""
    request.recipe.resolve(source.graph, source.layers)  # a rule that matches nothing is an error

    def one(graph: Graph, own: tuple[Any, Statistics | None]) -> Result:
        recipe = signatures.own_recipe(request.recipe, graph, source.layers)
        samples, statistics = replace(given, data=own[0]), own[1]
        return _quantized(
            open_model(flatbuffer.write(graph)), replace(request, recipe=recipe), samples, statistics, way
        )

    return _one_file(source, each(source.graph, every, one))


def _one_file(source: Source, results: Mapping[str, Result]) -> Result:
    """Return the results of several signatures as one file."""
    graph = signatures.joined({key: result.graph for key, result in results.items()})
    content = flatbuffer.write(graph)
    reports = {key: result.report for key, result in results.items()}
    report = signatures.one_report(reports, len(content), file_size(source.content))
    report = replace(report, notes=(*source.notes, *report.notes))
    return Result(report, graph, {key: result.signatures[key] for key, result in results.items()}, content)


@extras_named()
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
    """Run a float model on representative data and gather the statistics that a recipe needs.

    Ctrl-C ends the reading: what was gathered is returned, with a warning.

    Args:
        model: any model that `quantize` takes.
        data: any data that `quantize` takes.
        recipe: the recipe whose observers decide which statistics are gathered.
        observer: one observer for all activations, in place of the recipe's.
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
        `Statistics`, which merge, save, load and print as a table, and which `quantize(statistics=...)` takes. For data
        by signature, they hold statistics for each (`statistics.signatures["encode"]`). For a model that holds
        `FineQuantize` layers, whose scales and ranges are set by their own specs, they hold only the number of samples
        and warnings.

    Raises:
        TfqError: bad input, or statistics of another model.
    """
    samples = CalibrationData.of(data, num_samples, batch_size, on_invalid, threads, executor, shards)
    if wrappers(model):
        return _calibrated_wrappers(model, samples, progress)
    chosen = with_observer(recipe, observer)
    return _calibrated(open_model(model, safe_mode), samples, chosen, also, resume, progress)


def _calibrated_wrappers(model: Any, samples: CalibrationData, progress: bool | None) -> Statistics:
    """Give the wrappers of a model their ranges, and return how many samples that took."""
    material = Representative(samples)
    with stages(progress) as shown:
        with shown.stage("reading the model"):
            taken_apart = converted(model)
        with shown.stage("calibrating", material.count) as advance:
            statistics = calibrate_wrappers(taken_apart, material, advance)
    return Statistics(samples=statistics.samples, skipped=statistics.skipped, warnings=statistics.warnings)


def _calibrated(
    opened: OpenModel,
    samples: CalibrationData,
    recipe: Recipe,
    also: Sequence[str],
    resume: Statistics | None,
    progress: bool | None,
) -> Statistics:
    """Calibrate a model, or each signature of it where the data is by signature."""
    material = Representative(samples)
    with stages(progress) as shown:
        with shown.stage("reading the model"):
            source, _ = opened.read(material.shapes)
        graph = source.graph
        every = by_signature(graph, samples.data)
        requested = recipe.resolve(graph, source.layers)  # a rule that matches nothing is an error
        if every is not None:
            earlier = {} if resume is None else matched(graph, resume.signatures, "resumed statistics")

            def one(own: Graph, given: tuple[Any, Statistics | None]) -> Statistics:
                chosen = signatures.own_recipe(recipe, own, source.layers)
                own_samples = replace(samples, data=given[0])
                return _calibrated(open_model(flatbuffer.write(own)), own_samples, chosen, also, given[1], progress)

            pairs = {key: (value, earlier.get(key)) for key, value in every.items()}
            return Statistics.of_signatures(each(graph, pairs, one))
        if resume is not None and resume.signatures:
            raise TfqError("resume has statistics of several signatures, data is of one: pass data={'KEY': ...}")
        plan = make_plan(graph, requested, Policy("speed", True, Target()))
        if resume is not None:
            resume.require_of(graph)
        needs = plan_needs(graph, plan, is_static=True).also(algorithm_needs(graph, also))
        with shown.stage("calibrating", material.count) as advance:
            statistics = material.gather(graph, needs, advance=advance).requested
    return statistics if resume is None else resume.merge(statistics)
