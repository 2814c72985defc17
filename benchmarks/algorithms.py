"""Files of few bits next to the accuracy that they shall reach: `python -m benchmarks.algorithms`.

512 calibration samples, disjoint from the test samples; every file runs on the default kernels.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tfq_fine as tfq
from benchmarks.algorithm_bars import bar_of
from benchmarks.arguments import names_of, parser, work_folder
from benchmarks.evaluation import Evaluation, evaluate, outputs
from benchmarks.float_files import Files, prepared
from benchmarks.tables import Table, present, progress
from benchmarks.zoo import CASES
from benchmarks.zoo.case import MANY
from tfq_fine.planning import Prefer
from tfq_fine.request import WeightedSpec

MEASURED = ("resnet8", "small_mobilenet_v2", "efficientnet_lite0_cifar10")
CALIBRATION = MANY  # samples, where the case has so many


@dataclass(frozen=True)
class FileKind:
    """A file to make: its recipe, and whether all weights get its bits, or kernels for speed decide."""

    recipe: str | tfq.Recipe
    prefer: Prefer = "size"


_BLOCKS = tfq.WeightSpec(3, tfq.Blocks(32))
FILES: dict[str, FileKind] = {
    "full_w4a8": FileKind("full_w4a8", "speed"),
    "full_w4a8, size": FileKind("full_w4a8"),
    "dynamic_int4": FileKind("dynamic_int4", "speed"),
    "weight_only_int4": FileKind("weight_only_int4"),
    "weight_only_int4_block32": FileKind("weight_only_int4_block32"),
    "weight_only_int3_block32": FileKind(
        tfq.Recipe("int3", tfq.OpSpec("weight_only", _BLOCKS), flexible=True),
    ),
    "weight_only_int2_block32": FileKind("weight_only_int2_block32"),
    "full_w2a8": FileKind("full_w2a8"),
}


@dataclass(frozen=True)
class Effort:
    """A way to choose codes: an algorithm, or None for what a quality means."""

    algorithm: str | None
    quality: str = "fast"
    bias_correction: bool = True


EFFORTS: dict[str, Effort] = {
    "nearest": Effort("round_to_nearest", bias_correction=False),
    "clip": Effort("mse_clip", bias_correction=False),
    "squant": Effort("squant", bias_correction=False),
    "fast": Effort(None),
    "squant and biases": Effort("squant"),
    "gptq": Effort("gptq"),
    "qronos": Effort("qronos"),
    "comq": Effort("comq"),
    "balanced": Effort(None, "balanced"),
    "adaround": Effort("adaround"),
    "reconstruct": Effort("reconstruct"),
    "best": Effort(None, "best"),
}


DEFAULT = ("balanced", "best")


@dataclass(frozen=True)
class Row:
    """One effort for one file of one case."""

    case: str
    file: str
    effort: str
    evaluation: Evaluation
    seconds: float

    @property
    def least(self) -> float | None:
        """The top-1 in % that it shall reach; None where there is no bar."""
        bar = bar_of(self.file, self.effort, self.case)
        return None if bar is None else bar.figure(100 * self.evaluation.float_top1)


def measure(case: str, names: Sequence[str], efforts: Sequence[str], work: Path) -> Iterator[Row]:
    """Yield one row for every file and effort."""
    files = prepared(case, work)
    samples, labels = files.test(), files.labels()
    assert labels is not None, f"{case} has no labels"
    expected = outputs(files.tflite, samples)
    for name, effort in itertools.product(names, efforts):
        with tempfile.TemporaryDirectory(dir=work) as folder:  # kernels map the file while they run it
            start = time.perf_counter()
            content = _quantized(files, FILES[name], EFFORTS[effort])
            seconds = time.perf_counter() - start
            path = Path(folder) / "algorithms.tflite"
            path.write_bytes(content)
            yield Row(case, name, effort, evaluate(path, samples, labels, expected), seconds)


def _quantized(files: Files, kind: FileKind, effort: Effort) -> bytes:
    recipe = tfq.RECIPES[kind.recipe] if isinstance(kind.recipe, str) else kind.recipe
    if effort.algorithm is not None:
        recipe = recipe.with_algorithm(effort.algorithm)
    spec = recipe.default
    assert isinstance(spec, WeightedSpec)
    recipe = replace(recipe, default=spec.with_weights(bias_correction=effort.bias_correction))
    return tfq.quantize(
        files.tflite,
        recipe,
        files.calibration(CALIBRATION),
        quality=effort.quality,  # type: ignore[arg-type]
        prefer=kind.prefer,
    ).content


def table(rows: Sequence[Row]) -> Table:
    """Return one line per file and effort: top-1, the least that it shall be, and seconds."""
    lines = [
        (
            row.case,
            row.file,
            row.effort,
            f"{100 * row.evaluation.top1:.2f}",
            _told(row),
            f"{row.evaluation.sqnr_db:.1f}",
            f"{row.seconds:.0f}",
            f"{row.evaluation.bytes:,}",
        )
        for row in rows
    ]
    floats = {row.case: row.evaluation for row in rows}
    counts = (f"{case} {one.samples:,} (float {100 * one.float_top1:.2f})" for case, one in floats.items())
    notes = (
        f"Top-1 in %, SQNR of the outputs in dB, seconds of `quantize`; {CALIBRATION} calibration samples, apart from "
        "the test samples. The bar is the least top-1; * where it is missed.",
        f"Test samples: {', '.join(counts)}.",
    )
    columns = ("model", "file", "quality or algorithm", "top-1", "bar", "SQNR", "s", "bytes")
    return Table("Weights of few bits", columns, tuple(lines), notes, labels=3)


def _told(row: Row) -> str:
    if row.least is None:
        return ""
    missed = round(100 * row.evaluation.top1, 2) < round(row.least, 2)
    return f"{row.least:.2f}{'*' if missed else ''}"


def main() -> None:
    """Measure, print, save."""
    arguments = parser(__doc__, MEASURED, CASES)
    arguments.add_argument("--files", metavar="FILES", help=f"separated by ; of {'; '.join(FILES)}")
    arguments.add_argument("--efforts", type=names_of(EFFORTS), default=DEFAULT, help=f"of {', '.join(EFFORTS)}")
    options = arguments.parse_args()
    names = [name.strip() for name in options.files.split(";")] if options.files else list(FILES)
    rows: list[Row] = []
    with work_folder(options.work) as work:
        for case in options.cases:
            for row in measure(case, names, options.efforts, work):
                progress(f"{case} {row.file} {row.effort}: {row.evaluation} {row.seconds:.1f} s")
                rows.append(row)
    present(table(rows), rows, options.output)


if __name__ == "__main__":
    main()
