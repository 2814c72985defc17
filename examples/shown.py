"""What the examples share: a quiet terminal, and one table of what every recipe makes of a model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

import tfq_fine as tfq

WIDTH = 92  # of the table


@dataclass(frozen=True)
class Row:
    """What one recipe makes of a model."""

    recipe: str  # or another name of the file
    samples: int  # of the test
    bytes: int
    top1: float  # share of the test samples
    drop: float  # of top-1 against the float model; negative: better
    sqnr_db: float  # of the outputs
    latency_ms: float  # median of one sample on one thread
    latency_ratio: float  # against the float model, measured in alternation with it
    float_bytes: int
    float_top1: float
    float_ms: float


def compare(model: Any, calibration: Any, test: Any, labels: Any, folder: str | Path) -> list[Row]:
    """Quantize `model` with every recipe, verify each file on labelled samples, print the table.

    `folder` gets RECIPE.tflite, RECIPE.html (the error of every layer, with pictures) and numbers.json.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    rows = []
    for recipe in tfq.RECIPES:
        with quiet():
            result = tfq.quantize(model, recipe, data=calibration)
            rows.append(measured(model, result, recipe, test, labels, place))
    show(rows, place)
    return rows


def measured(model: Any, result: Any, name: str, test: Any, labels: Any, place: Path) -> Row:
    """Verify the file of a result on labelled samples; `place` gets NAME.tflite and NAME.html."""
    report = tfq.verify(model, result, data=test, labels=labels, metric="top1")
    report.save_html(place / f"{name}.html")
    result.save(place / f"{name}.tflite")
    return _row(name, report)


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what native code prints to stderr meanwhile: TensorFlow and its runtimes greet there. Errors still raise."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _row(recipe: str, report: Any) -> Row:
    task, time, before, after = report.task, report.latency, report.float_size, report.quantized_size
    return Row(
        recipe=recipe,
        samples=report.samples,
        bytes=after.file_bytes,
        top1=task.quantized_value,
        drop=task.drop,
        sqnr_db=report.outputs[0].sqnr_db,
        latency_ms=time.quantized_ms,
        latency_ratio=time.ratio,
        float_bytes=before.file_bytes,
        float_top1=task.float_value,
        float_ms=time.float_ms,
    )


def show(rows: list[Row], place: Path) -> None:
    """Print the table and write it to `place` as numbers.json."""
    numbers = {"samples": rows[0].samples, "recipes": [asdict(row) for row in rows]}
    (place / "numbers.json").write_text(json.dumps(numbers, indent=1))
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("recipe", no_wrap=True)
    for column in ("bytes", "top-1", "drop", "SQNR", "latency / float"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_row("float32", f"{rows[0].float_bytes:,}", f"{rows[0].float_top1:.2%}", "", "", "1.00")
    slow = {"full_int16x8", "full_w4a16"} & {row.recipe for row in rows}
    for row in rows:
        note = " *" if row.recipe in slow else ""
        cells = (f"{row.bytes:,}", f"{row.top1:.2%}", f"{100 * row.drop:+.2f}", f"{row.sqnr_db:.1f} dB")
        table.add_row(row.recipe + note, *cells, f"{row.latency_ratio:.2f}")
    console = Console()
    if console.width < WIDTH:  # numbers that wrap are better than numbers that are cut
        console = Console(width=WIDTH)
    console.print(table)
    for line in (
        "drop: points of top-1. Latency: one sample, one thread, alternating with float.",
        *(["* 16-bit activations are for accuracy: on CPUs their kernels are slow."] if slow else []),
        f"Saved in {place}: NAME.tflite, NAME.html (error of every layer), numbers.json",
    ):
        console.print(line, soft_wrap=True, highlight=False)
