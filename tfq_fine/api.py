"""`quantize`: the stages in order, nothing else."""

import os
from dataclasses import dataclass
from typing import Any, Literal

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_converters.quantized import QuantizedGraph
from tfq_converters.reading import read_model
from tfq_converters.unrunnable import unrunnable_names
from tfq_converters.writer import write
from tfq_fine.calibration import calibrate
from tfq_fine.data import batches, input_specs
from tfq_fine.encodings import integer_ops
from tfq_fine.equalization.block_factors import factor_blocks
from tfq_fine.placement import place
from tfq_fine.plan import Plan, Policy, Prefer, make_plan
from tfq_fine.presets import named
from tfq_fine.quantizer import quantize as choose_numbers
from tfq_fine.recipe import Recipe
from tfq_fine.report.quantization import QuantizationReport
from tfq_fine.sampling import FirstSample, generated_inputs, other_inputs
from tfq_fine.statistics import Statistics
from tfq_fine.summary import summarize


@dataclass(frozen=True)
class Result:
    """A file that has been run, and all that led to it."""

    content: bytes
    report: QuantizationReport
    graph: Graph  # of the file
    quantized: QuantizedGraph  # the numbers in it
    plan: Plan
    statistics: Statistics | None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file to `path`, beside and renamed.

        Raises:
            TfqError: the path cannot be written.
        """
        flatbuffer.save_pieces(iter([self.content]), path)


def quantize(
    model: Any,
    recipe: str | Recipe = "dynamic_int8",
    data: Any = None,
    *,
    input_type: str = "float32",
    output_type: str = "float32",
    prefer: Prefer = "speed",
    on_unsupported: Literal["error", "fallback"] | None = None,
    samples: int | None = None,
    batch_size: int = 1,
    statistics: Statistics | None = None,
    threads: int | None = None,
    safe_mode: bool = True,
) -> Result:
    """Quantize a Keras model, a SavedModel folder or a float `.tflite`, and run what came out.

    Args:
        model: a Keras 3 or tf_keras model; a path to `.keras`, `.h5`, `.tflite` or a SavedModel folder; or the bytes
            of a float `.tflite`.
        recipe: name of a preset (`tfq_fine.RECIPES`), or a `Recipe`.
        data: representative samples, in any form that `tfq_fine.data` documents; needed by static recipes.
        input_type: type of the file's float inputs: float32, int8, uint8 or int16.
        output_type: type of its float outputs.
        prefer: "speed" keeps an operator float, or at 8 bits, where its quantized kernel is slower; "size" does not.
        on_unsupported: what to do where no kernel takes the weights that are asked for: "error" lists all such
            operators and what works, "fallback" takes more bits or a coarser granularity, and reports it. None: what
            the recipe says; presets fall back.
        samples: read at most this many samples of `data`.
        batch_size: samples per run of the interpreter during calibration.
        statistics: of an earlier calibration, instead of `data`.
        threads: of the interpreter during calibration; all cores when None.
        safe_mode: refuse Keras files that would run code by being opened.

    Returns:
        The file's bytes, the report, and every intermediate.

    Raises:
        TfqError: bad input, an impossible request, or a file that does not compute what its numbers say.
    """
    chosen = named(recipe)
    source = read_model(model, safe_mode=safe_mode)
    graph = source.graph
    policy = Policy(prefer, chosen.flexible if on_unsupported is None else on_unsupported == "fallback")
    asked = chosen.resolve(graph, source.layers)
    factored = factor_blocks(graph, asked)
    graph = factored.graph
    plan = make_plan(graph, asked, policy, factored.notes)
    static = bool(integer_ops(plan)) or {input_type, output_type} != {"float32"}
    if static and data is None and statistics is None:
        raise TfqError(
            f"recipe {chosen.name!r} is static and needs representative data: give data=..., or statistics=..."
        )
    sample = None
    if data is not None:
        limit = samples if static else _one_run(graph)
        found = FirstSample(batches(data, input_specs(graph), batch_size=batch_size, limit=limit))
        if static and statistics is None:
            statistics = calibrate(graph, found, threads=threads or os.cpu_count() or 1)
        else:
            next(iter(found))
        sample = found.sample
    integer_borders = input_type != "float32" and output_type != "float32"
    plan = place(graph, plan, statistics, prefer, integer_borders, policy.flexible)
    quantized = choose_numbers(graph, plan, statistics, input_type, output_type)
    flatbuffer.forget_pages()
    written = write(quantized, [sample or generated_inputs(graph)], other_inputs(graph))
    notes = (*source.notes, *_notes(graph, plan, written.checked.kernels))
    report = summarize(quantized, plan, written, chosen.name, _size(source.content), notes)
    return Result(written.content, report, written.graph, quantized, plan, statistics)


def _one_run(graph: Graph) -> int:
    """Samples that one run of the model takes at least: more than 1 where its batch size is fixed."""
    return max((graph.main.tensors[t].shape[0] for t in graph.main.inputs if graph.main.tensors[t].shape), default=1)


def _notes(graph: Graph, plan: Plan, kernels: tuple[str, ...]) -> list[str]:
    """What a user should know of the file and of its check."""
    found = []
    if 16 in integer_ops(plan).values():
        found.append("16-bit activations run on slow kernels on CPUs: expect the file to be slower than float")
    if unrunnable_names(graph):
        names = ", ".join(unrunnable_names(graph))
        found.append(f"{names}: no runtime here executes them; they stay float, and only what is around them was run")
    if "reference" not in kernels:
        found.append(f"the reference kernels refuse the float model too; the file was run on {' and '.join(kernels)}")
    return found


def _size(content: bytes | str) -> int:
    return os.path.getsize(content) if isinstance(content, str) else len(content)
