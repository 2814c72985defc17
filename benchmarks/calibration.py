"""The calibrator compared with the other tools': time, memory, processes, outliers: `python -m benchmarks.calibration`.

Every round runs all of them in turns; ratios are medians over the rounds of a figure and the plain inference of the
same samples in the same round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import outliers
from benchmarks.arguments import parser, work_folder
from benchmarks.calibration_run import calibration_s, inference_s, peak_bytes, sharded_s
from benchmarks.float_files import Files, prepared
from benchmarks.tables import Table, progress, save
from benchmarks.tool_run import run_tool
from benchmarks.tools import TOOLS
from benchmarks.zoo import CASES

MEASURED = ("mobilenet_v2", "resnet50", "encoder")
OBSERVERS = ("min_max", "moving_average", "percentile", "mean_std", "mse", "entropy", "auto")
PEERS = ("litert_quantizer_int8_profiler", "litert_quantizer_int8", "tflite_converter_int8")
COUNTS = (100, 500, 2000)  # samples, for memory
MEMORY_CASE, MEMORY_OBSERVER = "mobilenet_v2", "mse"
PROCESSES_CASE = "resnet50"
MIB = 2**20


@dataclass(frozen=True)
class Timed:
    """One way to calibrate one model on its 100 samples."""

    case: str
    how: str
    seconds: tuple[float, ...]  # one time for every round
    ratios: tuple[float, ...]  # to plain inference


def times(case: str, work: Path, repeats: int) -> list[Timed]:
    """Return the times of all ways to calibrate, measured in turns."""
    files = prepared(case, work)
    samples = files.calibration()
    ways: dict[str, Callable[[], float]] = {"plain inference": lambda: inference_s(files.tflite, samples)}
    for name in OBSERVERS:
        ways[f"tfq_fine {name}"] = lambda name=name: calibration_s(files.tflite, samples, name)  # type: ignore[misc]
    also = ("channel_absmax",)
    ways["tfq_fine mse, channel_absmax"] = lambda: calibration_s(files.tflite, samples, "mse", also)
    for peer in PEERS:
        ways[TOOLS[peer].title] = lambda peer=peer: _peer_s(peer, files, work)  # type: ignore[misc]
    seconds: dict[str, list[float]] = {how: [] for how in ways}
    for _ in range(repeats):
        for how, measure in ways.items():
            seconds[how].append(measure())
            progress(f"{case} {how}: {seconds[how][-1]:.2f} s")
    plain = np.array(seconds["plain inference"])
    return [Timed(case, how, tuple(s), tuple((np.array(s) / plain).tolist())) for how, s in seconds.items()]


def _peer_s(peer: str, files: Files, work: Path) -> float:
    """Return the seconds of the peer's calibration, or of its whole run if it does not time calibration."""
    run = run_tool(peer, files, work / f"calibration-{peer}.tflite")
    return run.seconds if run.calibration_s is None else run.calibration_s


def time_table(rows: list[Timed]) -> Table:
    """Medians."""
    made = tuple((r.case, r.how, f"{median(r.seconds):.2f}", f"{median(r.ratios):.2f}") for r in rows)
    notes = (
        f"100 samples, all tensors; medians of {len(rows[0].seconds)} rounds. Ours from the file to the chosen ranges.",
        "TFLiteConverter does not time its calibration: conversion included.",
    )
    return Table("Calibration", ("model", "calibrated by", "s", "times inference"), made, notes)


def memory_table(case: str, work: Path) -> tuple[Table, dict[int, int]]:
    """Peak memory over numbers of samples."""
    tflite = prepared(case, work).tflite
    peaks = {count: peak_bytes(tflite, MEMORY_OBSERVER, count) for count in COUNTS}
    made = tuple((case, str(count), f"{peak / MIB:.0f}") for count, peak in peaks.items())
    note = f"Observer {MEMORY_OBSERVER} on all tensors; ru_maxrss of the process, library included."
    return Table("Memory of a calibration", ("model", "samples", "peak MiB"), made, (note,), labels=1), peaks


def processes_table(case: str, work: Path, repeats: int) -> tuple[Table, list[tuple[float, float]]]:
    """Return the times of one process and of two, with one thread each."""
    files = prepared(case, work)
    samples = files.calibration()
    pairs = [(sharded_s(files.tflite, samples, 1), sharded_s(files.tflite, samples, 2)) for _ in range(repeats)]
    one, two = (median(column) for column in zip(*pairs, strict=True))
    ratio = median(b / a for a, b in pairs)
    rows = ((case, f"{one:.2f}", f"{two:.2f}", f"{ratio:.2f}"),)
    note = "100 samples through a ProcessPoolExecutor that runs already, one thread in each process."
    return Table("Calibration in processes", ("model", "one: s", "two: s", "ratio"), rows, (note,), labels=1), pairs


def main() -> None:
    """Measure, print, save."""
    arguments = parser(__doc__, MEASURED, CASES)
    arguments.add_argument("--repeats", type=int, default=3, metavar="N", help="rounds (3)")
    options = arguments.parse_args()
    with work_folder(options.work) as work:
        memory, peaks = memory_table(MEMORY_CASE, work)
        processes, pairs = processes_table(PROCESSES_CASE, work, options.repeats)
        timed = [row for case in options.cases for row in times(case, work, options.repeats)]
        outcomes = list(outliers.measure(OBSERVERS, work))
    tables = [time_table(timed), memory, processes, outliers.table(outcomes)]
    for made in tables:
        made.show()
    if options.output:
        numbers = {
            "times": [asdict(row) for row in timed],
            "peaks": {str(count): peak for count, peak in peaks.items()},
            "processes": pairs,
            "outliers": [asdict(row) for row in outcomes],
        }
        save(options.output, tables, numbers)


if __name__ == "__main__":
    main()
