"""Time and memory of full-int8 quantization, tfq_fine compared with the other tools: `python -m benchmarks.full_int8`.

Each run is a process of its own that has imported its library before its clock starts; the tools take turns (A B C A
B C). tfq_fine's clock covers reading, calibration, quantization, the run check on two sets of kernels, and writing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.arguments import parser, work_folder
from benchmarks.file_latency import time_files
from benchmarks.float_files import Files, prepared
from benchmarks.tables import Table, progress, save
from benchmarks.tool_run import ToolRun, run_tool
from benchmarks.tools import TOOLS
from benchmarks.zoo import CASES
from tfq_converters import flatbuffer
from tfq_converters.runtime import Runner
from tfq_fine.calibration import calibrate, range_needs
from tfq_fine.data import batches, input_specs

OURS = "full_int8"
COMPARED = (
    OURS,
    "litert_quantizer_int8",
    "litert_quantizer_int8_profiler",
    "litert_quantizer_int8_profiler_as_is",
    "tflite_converter_int8",
)
MEASURED = ("mobilenet_v2", "resnet50", "encoder")
LATENCY_SECONDS = 10.0
MIB = 2**20


@dataclass(frozen=True)
class Measured:
    """One tool on one case; the figures are medians over the runs."""

    case: str
    tool: str
    runs: tuple[ToolRun, ...]
    latency_ms: float
    latency_ratio: float  # to the float file
    bytes: int

    def median(self, figure: str) -> float | None:
        """Return the median of one field of `ToolRun`; None if the tool does not report it."""
        values = [getattr(run, figure) for run in self.runs]
        return None if None in values else median(values)

    def ratio(self, figure: str, other: Measured) -> float:
        """Median over the rounds of this tool's figure to the other's, which ran at about the same time."""
        pairs = zip(self.runs, other.runs, strict=True)
        return median(getattr(mine, figure) / getattr(theirs, figure) for mine, theirs in pairs)


@dataclass(frozen=True)
class Calibration:
    """tfq_fine's min/max calibration compared with plain inference: both open the file and run all samples."""

    case: str
    seconds: float
    inference_s: float
    ratio: float  # median over the rounds


def run_tools(case: str, tools: Sequence[str], work: Path, repeats: int) -> dict[str, list[ToolRun]]:
    """Run every tool `repeats` times, in turns; leaves the files in `work`."""
    files = prepared(case, work)
    runs: dict[str, list[ToolRun]] = {tool: [] for tool in tools}
    for _ in range(repeats):
        for tool in tools:
            runs[tool].append(run_tool(tool, files, _output(case, tool, work)))
            progress(f"{case} {tool}: {runs[tool][-1]}")
    return runs


def time_outputs(case: str, runs: Mapping[str, Sequence[ToolRun]], work: Path) -> list[Measured]:
    """Time the files that the tools left in `work`."""
    files = prepared(case, work)
    paths = {tool: _output(case, tool, work) for tool in runs}
    times = time_files({"float": files.tflite, **paths}, files.test()[:1], LATENCY_SECONDS)
    return [
        Measured(case, t, tuple(runs[t]), times.median(t) / 1e6, times.ratio(t, "float"), paths[t].stat().st_size)
        for t in runs
    ]


def _output(case: str, tool: str, work: Path) -> Path:
    return work / f"{case}-{tool}.tflite"


def calibration(case: str, files: Files, repeats: int) -> Calibration:
    """Calibrate and infer in turns, in this process."""
    graph, samples = flatbuffer.read(str(files.tflite)), files.calibration()
    threads = os.cpu_count() or 1

    def calibrated() -> None:
        calibrate(graph, batches(samples, input_specs(graph)), range_needs(graph), threads)

    def inferred() -> None:
        runner = Runner(str(files.tflite), threads=threads)
        for index in range(len(samples)):
            runner.run([samples[index : index + 1]])

    times = np.array([[_seconds(run) for run in (calibrated, inferred)] for _ in range(repeats)])
    seconds, inference = np.median(times, axis=0).tolist()
    return Calibration(case, seconds, inference, float(np.median(times[:, 0] / times[:, 1])))


def _seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def table(rows: Sequence[Measured]) -> Table:
    """Return the medians, and in brackets their ratio to those of tfq_fine."""
    ours = {row.case: row for row in rows if row.tool == OURS}
    made = []
    for row in rows:
        cells = [_relative(row, ours.get(row.case), figure, 1, 2) for figure in ("calibration_s", "seconds", "cpu_s")]
        cells += [_relative(row, ours.get(row.case), figure, MIB, 0) for figure in ("tree_peak", "self_peak")]
        tool = TOOLS[row.tool]
        cells += [f"{row.latency_ms:.2f}", f"{row.latency_ratio:.2f}", f"{row.bytes:,}"]
        made.append((row.case, tool.title, tool.source, *cells))
    seconds, memory = ("calibration s", "total s", "CPU s"), ("peak MiB, tree", "peak MiB, process")
    columns = ("model", "tool", "from", *seconds, *memory, "file: ms", "file: to float", "bytes")
    notes = (
        f"100 samples; medians of {len(rows[0].runs)} runs; in brackets: times tfq_fine's, median over the rounds.",
        "Total: from the float file to the quantized file on disk, library imported; tfq_fine's with its run check.",
        "TFLiteConverter starts from the SavedModel, as it takes no .tflite file, and does not time its calibration.",
        "Peak: resident memory with library, of the process and its children together (shared pages count in each), "
        "and ru_maxrss of the process alone.",
        "File: CPU time of one sample, one thread, default LiteRT kernels, in turns with the float file.",
    )
    return Table("Full int8", columns, tuple(made), notes, labels=3)


def _relative(row: Measured, ours: Measured | None, figure: str, unit: float, digits: int) -> str:
    value = row.median(figure)
    if value is None:
        return "–"
    text = f"{value / unit:.{digits}f}"
    return text if row is ours or ours is None else f"{text} ({row.ratio(figure, ours):.2f}x)"


def calibration_table(rows: Sequence[Calibration]) -> Table:
    """Calibration compared with inference."""
    made = tuple((row.case, f"{row.seconds:.2f}", f"{row.inference_s:.2f}", f"{row.ratio:.2f}") for row in rows)
    columns = ("model", "min/max calibration s", "inference s", "ratio")
    return Table("tfq_fine's calibration of 100 samples compared with plain inference of them", columns, made, labels=1)


def main() -> None:
    """Measure, print, save."""
    arguments = parser(__doc__, MEASURED, CASES)
    arguments.add_argument("--repeats", type=int, default=3, metavar="N", help="runs of every tool (3)")
    options = arguments.parse_args()
    with work_folder(options.work) as work:
        runs = {case: run_tools(case, COMPARED, work, options.repeats) for case in options.cases}
        # after all runs: a child's ru_maxrss starts at its parent's, so this process stays small until here
        rows = [row for case in options.cases for row in time_outputs(case, runs[case], work)]
        calibrations = [calibration(case, prepared(case, work), options.repeats) for case in options.cases]
    tables = [table(rows), calibration_table(calibrations)]
    for made in tables:
        made.show()
    if options.output:
        numbers = {"rows": rows, "calibration": calibrations}
        save(options.output, tables, {name: [asdict(row) for row in measured] for name, measured in numbers.items()})


if __name__ == "__main__":
    main()
