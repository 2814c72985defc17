"""`quantize`: the stages in order, nothing else."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tfq_converters import flatbuffer
from tfq_converters.child_runs import waiting
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_converters.kernel_table import load
from tfq_converters.kernels import DEFAULT_RUNTIMES, Target
from tfq_converters.quantized import QuantizedGraph
from tfq_converters.reading import read_model
from tfq_converters.unrunnable import unrunnable_names
from tfq_converters.writer import write
from tfq_fine.calibration import calibrate, mean_needs
from tfq_fine.data import batches, input_specs
from tfq_fine.encodings import integer_ops
from tfq_fine.equalization.block_factors import Factored, factor_blocks
from tfq_fine.layers.export import wrapped_model
from tfq_fine.placement import place
from tfq_fine.plan import OnUnsupported, Plan, Policy, Prefer, make_plan
from tfq_fine.presets import named
from tfq_fine.quantizer import corrects_biases
from tfq_fine.quantizer import quantize as choose_numbers
from tfq_fine.recipe import Recipe
from tfq_fine.report.quantization import QuantizationReport
from tfq_fine.sampling import FirstSample, generated_inputs, other_inputs
from tfq_fine.statistics import Statistics
from tfq_fine.summary import summarize
from tfq_fine.tfmot.qat import qat_model


@dataclass(frozen=True)
class Result:
    """A file that has been run, and all that led to it."""

    report: QuantizationReport
    graph: Graph  # of the file
    quantized: QuantizedGraph  # the numbers in it
    plan: Plan
    statistics: Statistics | None
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
    samples: int | None = None,
    batch_size: int = 1,
    statistics: Statistics | None = None,
    threads: int | None = None,
    safe_mode: bool = True,
) -> Result:
    """Quantize a Keras model, a SavedModel folder or a float `.tflite`, and run what came out.

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
        samples: read at most this many samples of `data`.
        batch_size: samples per run of the interpreter during calibration.
        statistics: of an earlier calibration, instead of `data`. They hold for the model as it is, so that no scales
            of blocks are folded into what makes their inputs.
        threads: of the interpreter during calibration; all cores when None.
        safe_mode: refuse Keras files that would run code by being opened.

    Returns:
        The file's bytes, the report, and every intermediate.

    Raises:
        TfqError: bad input, an impossible request, or a file that does not compute what its numbers say.
    """
    wrapped = qat_model(model) or wrapped_model(model, safe_mode)
    chosen = named(recipe or (wrapped.recipe if wrapped else "dynamic_int8"))
    target = Target(
        (runtimes,) if isinstance(runtimes, str) else tuple(runtimes), None if kernels is None else load(kernels)
    )
    source = read_model(wrapped.model if wrapped else model, safe_mode=safe_mode)
    graph = source.graph
    flexible = chosen.flexible and not target.compiles if on_unsupported is None else on_unsupported == "fallback"
    policy = Policy(prefer, flexible, target)
    asked = chosen.resolve(graph, source.layers)
    fixed = wrapped is not None or statistics is not None  # they are of this graph
    factored = Factored(graph, {}, {}) if fixed else factor_blocks(graph, asked)
    graph = factored.graph
    own = wrapped.given(graph) if wrapped else None
    plan = make_plan(
        graph, asked | dict.fromkeys(own.asked, None) if own else asked, policy, factored.notes, factored.kept
    )
    if own:
        plan, prefer = own.merged(graph, plan, policy), "size"
    static = bool(integer_ops(plan)) or {input_type, output_type} != {"float32"}
    if static and data is None and statistics is None:
        raise TfqError(
            f"recipe {chosen.name!r} is static and needs representative data: give data=..., or statistics=..."
        )
    with waiting() as runs:  # it starts while calibration runs
        sample = None
        if data is not None:
            calibrates = statistics is None and (static or corrects_biases(graph, plan))
            found = FirstSample(batches(data, input_specs(graph), batch_size=batch_size, limit=samples))
            if calibrates:
                needs = None if static else mean_needs(graph)
                statistics = calibrate(graph, found, needs, threads=threads or os.cpu_count() or 1)
            else:
                next(iter(found))
            sample = found.sample
        no_islands = target.compiles or (input_type != "float32" and output_type != "float32")
        plan = place(graph, plan, statistics, prefer, no_islands, policy)
        known = own.with_ranges(graph, plan, statistics) if own else statistics
        quantized = choose_numbers(graph, plan, known, input_type, output_type, own.codes if own else None)
        flatbuffer.forget_pages(trim=True)
        written = write(quantized, [sample or generated_inputs(graph)], other_inputs(graph), runs)
    flatbuffer.forget_pages(trim=True)
    raised = own.changed(quantized) if own else []
    notes = (*source.notes, *raised, *_notes(graph, plan, written.checked.kernels), *_meant_for(target))
    report = summarize(quantized, plan, written, chosen.name, _size(source.content), notes)
    return Result(report, written.graph, quantized, plan, statistics, written.content)


def _notes(graph: Graph, plan: Plan, kernels: tuple[str, ...]) -> list[str]:
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
    elif "reference" not in kernels:
        found.append(f"the reference kernels refuse the float model too; the file was run on {' and '.join(kernels)}")
    return found


def _meant_for(target: Target) -> list[str]:
    if target.runtimes == DEFAULT_RUNTIMES:
        return []
    return [f"meant for {', '.join(target.runtimes)}, by the kernel table; it was run here on LiteRT"]


def _size(content: bytes | str) -> int:
    return os.path.getsize(content) if isinstance(content, str) else len(content)
