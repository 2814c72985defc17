"""The distance of quantized models of packages from their own float results.

`python -m benchmarks.package_models [--recipe full_int8] [MODEL ...]` prints, for each output, its SQNR over all test
samples, and how many points it is off. Of decisions (a class, the side of a limit) these are the percent that differ
from those of the float model; of values (coordinates, boxes, maps) the mean absolute error in percent of the range,
from the smallest to the largest value of the float output over the test samples. The zoo says which output is what.
Decisions are shown with how many of them are positive in float: a rare one that is missed is a small share of all.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.timing import in_turns
from benchmarks.zoo import FILES, FileCase
from benchmarks.zoo.file_case import LARGEST, VALUES, Kind
from tfq_converters.check import sqnr
from tfq_converters.reading import read_model
from tfq_converters.runtime import Runner
from tfq_fine import quantize

WITHIN = 0.5  # points
TIMED_SECONDS = 1.0  # both files in turns


@dataclass(frozen=True)
class OutputRow:
    """One output of a file next to the float model's."""

    db: float  # SQNR
    points: float
    decisions: str = ""  # how many were positive or, of several classes, made; "" of values

    def __str__(self) -> str:
        mark = "" if self.points <= WITHIN else "!"
        return f"{self.db:5.1f} dB {self.points:5.2f}{mark}{self.decisions}"


@dataclass(frozen=True)
class FileRow:
    """One file."""

    outputs: tuple[OutputRow, ...]
    seconds: float  # that quantizing it took
    milliseconds: tuple[float, float]  # CPU time of one run in float, of one of the file, both on one thread
    bytes: int
    transforms: str

    def __str__(self) -> str:
        outputs = ", ".join(map(str, self.outputs))
        before, after = self.milliseconds
        return f"{outputs}   ({before:.2f} -> {after:.2f} ms, {self.bytes // 1000} kB, {self.seconds:.0f} s)"


def points(expected: np.ndarray, found: np.ndarray, kind: Kind) -> float:
    """Return how far an output is off, as a user sees it."""
    if kind == VALUES:
        extent = float(expected.max()) - float(expected.min())
        return 100 * float(np.abs(found - expected).mean(dtype=np.float64)) / max(extent, 1e-30)
    if kind == LARGEST:
        return 100 * float(np.mean(expected.argmax(-1) != found.argmax(-1)))
    return 100 * float(np.mean((expected > kind) != (found > kind)))


def decisions(expected: np.ndarray, kind: Kind) -> str:
    """Return how many decisions there are."""
    if kind == VALUES:
        return ""
    if kind == LARGEST:
        return f" of {expected.size // expected.shape[-1]}"
    return f" ({int((expected > kind).sum())} of {expected.size} positive)"


def row_of(expected: np.ndarray, found: np.ndarray, kind: Kind) -> OutputRow:
    """Return all figures of one output."""
    return OutputRow(sqnr([(expected, found)]), points(expected, found, kind), decisions(expected, kind))


def measured(case: FileCase, recipe: str) -> FileRow:
    """Quantize a model, and compare its file with it."""
    start = time.perf_counter()
    result = quantize(case.model, recipe, data=case.calibration)
    seconds = time.perf_counter() - start
    runners = Runner(read_model(case.model).content), Runner(result.content)
    outputs = [[runner.run([x[None]]) for x in case.test] for runner in runners]
    rows = []
    for k, kind in enumerate(case.kinds):
        expected, actual = (np.concatenate([values[k] for values in side]) for side in outputs)
        rows.append(row_of(expected, actual, kind))
    runs = {str(k): partial(runner.run, [case.test[:1]]) for k, runner in enumerate(runners)}
    times = in_turns(runs, seconds=TIMED_SECONDS)
    first, second = (times.median(name) / 1e6 for name in runs)
    transforms = "\n".join(
        f"      {row.name} {'on' if row.applied else 'off'} {row.text}" for row in result.report.transforms
    )
    return FileRow(tuple(rows), seconds, (first, second), len(result.content), transforms)


def main(arguments: Sequence[str] | None = None) -> None:
    """One line for each model; `!` marks what is off by more than `WITHIN` points."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(FILES)}")
    parser.add_argument("--recipe", default="full_int8")
    parser.add_argument("--transforms", action="store_true", help="show what was transformed, and why not")
    options = parser.parse_args(arguments)
    for name in options.models or FILES:
        try:
            row = measured(FILES[name](), options.recipe)
        except Exception as error:
            print(f"{name:34} {type(error).__name__}: {str(error)[:300]}", flush=True)
            continue
        print(f"{name:34} {row}", flush=True)
        if options.transforms:
            print(row.transforms, flush=True)


if __name__ == "__main__":
    main()
