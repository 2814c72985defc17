"""Perplexity of a small language model, plain and with outlier channels: `python -m benchmarks.language_model`.

128 calibration rows of 128 words; the test rows come from other articles. Every file runs on the default kernels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tfq_fine as tfq
from benchmarks.arguments import names_of, parser, work_folder
from benchmarks.evaluation import THREADS
from benchmarks.float_files import Files, prepared
from benchmarks.tables import Table, present, progress
from tfq_converters import flatbuffer
from tfq_fine.numerics.errors import ErrorSums
from tfq_fine.report import TransformRow
from tfq_fine.verification.side import Side
from tfq_fine.verification.task_metrics import perplexity

PLAIN, OUTLIERS, RMS = "language_model", "language_model_outliers", "language_model_rms"
CALIBRATION = 128  # rows


@dataclass(frozen=True)
class Setting:
    """The arguments of `quantize`."""

    recipe: str
    quality: str = "balanced"
    transforms: str | tuple[str, ...] | None = "auto"

    @property
    def name(self) -> str:
        """The arguments that differ from the defaults, in words."""
        quality = "" if self.quality == "balanced" else f", {self.quality}"
        names = "none" if self.transforms is None else self.transforms
        names = names if isinstance(names, str) else " + ".join(names)
        return f"{self.recipe}{quality}{'' if names == 'auto' else f', transforms: {names}'}"


_RECIPES = ("weight_only_int4", "weight_only_int4_block32", "dynamic_int4", "dynamic_int4_block32", "fptq")
_BLOCKS = ("weight_only_int4_block32", "weight_only_int2_block32")
SETTINGS: Mapping[str, tuple[Setting, ...]] = {
    PLAIN: (
        Setting("full_int8"),
        Setting("dynamic_int8"),
        *(Setting(recipe, quality) for recipe in _RECIPES for quality in ("fast", "balanced")),
    ),
    OUTLIERS: (
        Setting("full_int8", transforms=None),
        Setting("full_int8", transforms=("smooth_quant",)),
        Setting("full_int8", transforms=("log_equalization",)),
        Setting("full_int8"),
        Setting("full_w4a8_block32", "fast", None),
        Setting("fptq", "fast"),
    ),
    RMS: tuple(
        Setting(recipe, "fast", transforms)
        for recipe in ("weight_only_int4", *_BLOCKS, "full_w4a8", "full_int8")
        for transforms in (None, ("rotate",))
    ),
}


@dataclass(frozen=True)
class Row:
    """One file."""

    case: str
    setting: str
    bytes: int
    float_perplexity: float
    perplexity: float
    sqnr_db: float  # the logits'
    seconds: float  # that `quantize` took
    transforms: tuple[str, ...]  # what those brought that were measured
    modes: tuple[str, ...]  # how many operators with weights are in which mode


def measure(case: str, settings: Sequence[Setting], work: Path, test: int) -> Iterator[Row]:
    """Yield one row for each setting."""
    files = prepared(case, work)
    for setting in settings:
        start = time.perf_counter()
        result = _quantized(files, setting)
        seconds = time.perf_counter() - start
        path = work / f"{case}.tflite"
        path.write_bytes(result.content)
        before, after, sqnr_db = evaluate(files, path, test)
        transforms = tuple(_outcome(row) for row in result.report.transforms if row.applied or row.after is not None)
        sizes = (len(result.content), before, after, sqnr_db, seconds)
        yield Row(case, setting.name, *sizes, transforms, _modes(result))


def _quantized(files: Files, setting: Setting) -> Any:
    options = {"quality": setting.quality, "transforms": setting.transforms}
    return tfq.quantize(files.tflite, setting.recipe, files.calibration(CALIBRATION), **options)  # type: ignore[arg-type]


def _outcome(row: TransformRow) -> str:
    """Return a transform's name, and what its file brought on some calibration rows."""
    brought = "" if row.after is None or row.before is None else f" {row.after - row.before:+.1f} dB"
    return f"{row.name}{brought}{'' if row.applied else ' (off)'}"


def _modes(result: Any) -> tuple[str, ...]:
    modes = [f"{row.mode} {row.weights}".strip() for row in result.report.rows if row.weights]
    return tuple(f"{modes.count(mode)} {mode}" for mode in dict.fromkeys(modes))


def evaluate(files: Files, path: Path, count: int) -> tuple[float, float, float]:
    """Return (perplexity of the float file, perplexity of the file, SQNR of its logits in dB) on `count` test rows."""
    labels = files.labels()
    assert labels is not None
    sides = [Side(flatbuffer.read(str(place)), str(place), threads=THREADS) for place in (files.tflite, path)]
    logs, errors = np.zeros(2), ErrorSums()
    for sample, following in zip(files.test()[:count], labels[:count], strict=True):
        expected, logits = (side.run([np.ascontiguousarray(sample[None])])[0] for side in sides)
        logs += [np.log(perplexity(each[0], following)) for each in (expected, logits)]
        errors += ErrorSums.of(expected, logits)
    before, after = np.exp(logs / min(count, len(labels)))
    return float(before), float(after), errors.sqnr_db


def table(rows: Sequence[Row]) -> Table:
    """Return one line per file."""
    lines = [
        (
            row.case,
            row.setting,
            f"{row.perplexity:.2f}",
            f"{100 * (row.perplexity / row.float_perplexity - 1):+.2f}",
            f"{row.sqnr_db:.1f}",
            f"{row.bytes:,}",
            f"{row.seconds:.0f}",
            ", ".join(row.transforms),
            ", ".join(row.modes),
        )
        for row in rows
    ]
    floats = {row.case: f"{row.case} {row.float_perplexity:.2f}" for row in rows}
    columns = ("model", "file", "perplexity", "%", "SQNR dB", "bytes", "seconds", "transforms", "weights")
    notes = (f"Float perplexity: {', '.join(floats.values())}; %: how much higher that of the file is.",)
    return Table("Language model", columns, tuple(lines), notes)


def main() -> None:
    """Measure, print, save."""
    arguments = parser(__doc__, tuple(SETTINGS), SETTINGS)
    recipes = {setting.recipe for settings in SETTINGS.values() for setting in settings}
    arguments.add_argument("--recipes", type=names_of(recipes), default=tuple(recipes), help="comma-separated")
    arguments.add_argument("--test", type=int, metavar="N", default=256, help="test rows")
    options = arguments.parse_args()
    rows: list[Row] = []
    with work_folder(options.work) as work:
        for case in options.cases:
            settings = [setting for setting in SETTINGS[case] if setting.recipe in options.recipes]
            for row in measure(case, settings, work, options.test):
                progress(f"{asdict(row)}")
                rows.append(row)
    present(table(rows), rows, options.output)


if __name__ == "__main__":
    main()
