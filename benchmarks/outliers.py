"""The effect of corrupted samples in the representative data on each observer, and of more data on `auto`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import tfq_fine as tfq
from benchmarks.evaluation import evaluate, outputs
from benchmarks.float_files import Files, prepared
from benchmarks.tables import Table, progress
from benchmarks.tool_run import run_tool
from benchmarks.tools import TOOLS
from benchmarks.zoo.cifar10 import centred, cifar10

CASE = "resnet8"
CORRUPTED, SCALE = 0.01, 50  # share of the samples, and the number that they are multiplied by
SAMPLES = 100
MORE = (25, 100, 400, 1600)  # samples, for `auto`
PEERS = ("litert_quantizer_int8", "litert_quantizer_int8_profiler", "tflite_converter_int8")


@dataclass(frozen=True)
class Outcome:
    """One file."""

    how: str
    samples: int
    corrupted: int
    top1: float
    sqnr_db: float


def corrupted(samples: np.ndarray, seed: int = 1) -> np.ndarray:
    """Return the samples, some of them scaled."""
    changed = samples.copy()
    which = np.random.default_rng(seed).choice(len(changed), max(1, round(CORRUPTED * len(changed))), replace=False)
    changed[which] *= SCALE
    return changed


def measure(observers: tuple[str, ...], work: Path, peers: tuple[str, ...] = PEERS) -> Iterator[Outcome]:
    """Top-1 of full-int8 files of every observer and tool, calibrated on clean and on corrupted samples."""
    files, data = prepared(CASE, work), centred(cifar10().train[: max(MORE)])
    labels, test = files.labels(), files.test()
    assert labels is not None
    expected = outputs(files.tflite, test)
    path = work / "outliers.tflite"

    def outcome(how: str, samples: np.ndarray, bad: int) -> Outcome:
        evaluation = evaluate(path, test, labels, expected)
        made = Outcome(how, len(samples), bad, evaluation.top1, evaluation.sqnr_db)
        progress(f"outliers: {made}")
        return made

    yield replace(_float(test, labels, expected, files), samples=0)
    for spoiled in (False, True):
        samples = corrupted(data[:SAMPLES]) if spoiled else data[:SAMPLES]
        for observer in observers:
            tfq.quantize(files.tflite, "full_int8", samples, observer=observer).save(path)
            yield outcome(f"tfq_fine {observer}", samples, int(spoiled * CORRUPTED * SAMPLES))
        other = _with_calibration(files, samples, work / f"{CASE}-{'spoiled' if spoiled else 'clean'}")
        for peer in peers:
            run_tool(peer, other, path, SAMPLES)
            yield outcome(TOOLS[peer].title, samples, int(spoiled * CORRUPTED * SAMPLES))
    for count in MORE:
        for spoiled in (False, True):
            samples = corrupted(data[:count]) if spoiled else data[:count]
            tfq.quantize(files.tflite, "full_int8", samples, observer="auto").save(path)
            yield outcome("tfq_fine auto", samples, round(spoiled * max(1, CORRUPTED * count)))


def _float(test: np.ndarray, labels: np.ndarray, expected: np.ndarray, files: Files) -> Outcome:
    evaluation = evaluate(files.tflite, test, labels, expected)
    return Outcome("float", 0, 0, evaluation.top1, evaluation.sqnr_db)


def _with_calibration(files: Files, samples: np.ndarray, folder: Path) -> Files:
    """Return the files with other calibration samples."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in files.folder.iterdir():
        link = folder / path.name
        if path.name != "calibration.npy" and not link.exists():
            link.symlink_to(path.resolve())
    np.save(folder / "calibration.npy", samples)
    return Files(folder)


def table(rows: list[Outcome]) -> Table:
    """Return one row per file."""
    made = tuple(
        (row.how, f"{row.samples or ''}", f"{row.corrupted or ''}", f"{100 * row.top1:.2f}", f"{row.sqnr_db:.1f}")
        for row in rows
    )
    notes = (
        "ResNet-8 on the 10,000 test images of CIFAR-10; bias correction and all other defaults on.",
        f"Corrupted: samples multiplied by {SCALE}.",
    )
    columns = ("full int8 by", "samples", "corrupted", "top-1 %", "SQNR dB")
    return Table("Corrupted samples in the representative data", columns, made, notes, labels=1)
