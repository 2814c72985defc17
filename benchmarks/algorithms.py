"""Weight algorithms below 8 bits, compared in the emitted file: `python -m benchmarks.algorithms`.

512 calibration samples, disjoint from the test samples; all weights at the bits of the setting (`prefer="size"`), every
file on the default kernels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tfq_fine as tfq
from benchmarks.arguments import names_of, parser, work_folder
from benchmarks.evaluation import Evaluation, evaluate, outputs
from benchmarks.float_files import Files, prepared
from benchmarks.tables import Table, present, progress
from benchmarks.zoo import CASES
from benchmarks.zoo.case import MANY
from tfq_fine.request import WeightedSpec

MEASURED = ("resnet8", "small_mobilenet_v2", "efficientnet_lite0_cifar10")
CALIBRATION = MANY  # samples, where the case has so many
_BLOCKS = tfq.WeightSpec(3, tfq.Blocks(32))
RECIPES: dict[str, tfq.Recipe] = {
    "weight_only_int4": tfq.RECIPES["weight_only_int4"],
    "weight_only_int4_block32": tfq.RECIPES["weight_only_int4_block32"],
    "weight_only_int3_block32": tfq.Recipe("int3", tfq.OpSpec("weight_only", _BLOCKS), flexible=True),
    "weight_only_int2_block32": tfq.RECIPES["weight_only_int2_block32"],
    "dynamic_int4": tfq.RECIPES["dynamic_int4"],
    "full_w4a8": tfq.RECIPES["full_w4a8"],
    "full_w2a8": tfq.RECIPES["full_w2a8"],
}
SPEED = {"dynamic_int4"}  # recipes of which some kernels are refused or wrong: prefer="speed" avoids them


@dataclass(frozen=True)
class Effort:
    """A way to choose codes: an algorithm, or None for what a quality means."""

    algorithm: str | None
    quality: str = "fast"
    bias_correction: bool = True


EFFORTS: dict[str, Effort] = {
    "nearest": Effort("round_to_nearest", bias_correction=False),
    "clip": Effort("mse_clip", bias_correction=False),
    "fast (clip, biases)": Effort(None),
    "gptq": Effort("gptq"),
    "qronos": Effort("qronos"),
    "comq": Effort("comq"),
    "balanced": Effort(None, "balanced"),
    "best": Effort(None, "best"),
}


@dataclass(frozen=True)
class Row:
    """One effort for one recipe on one case."""

    case: str
    recipe: str
    effort: str
    evaluation: Evaluation
    seconds: float


def measure(case: str, recipes: Sequence[str], efforts: Sequence[str], work: Path) -> Iterator[Row]:
    """Yield one row for every recipe and effort."""
    files = prepared(case, work)
    samples, labels = files.test(), files.labels()
    assert labels is not None, f"{case} has no labels"
    expected = outputs(files.tflite, samples)
    for recipe in recipes:
        for effort in efforts:
            start = time.perf_counter()
            content = _quantized(files, recipe, EFFORTS[effort])
            seconds = time.perf_counter() - start
            path = work / f"{case}-algorithms.tflite"
            path.write_bytes(content)
            yield Row(case, recipe, effort, evaluate(path, samples, labels, expected), seconds)


def _quantized(files: Files, name: str, effort: Effort) -> bytes:
    recipe = RECIPES[name]
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
        prefer="speed" if name in SPEED else "size",
    ).content


def table(rows: Sequence[Row]) -> Table:
    """Return one line per case and recipe, one column per effort: top-1 and seconds."""
    efforts = list(dict.fromkeys(row.effort for row in rows))
    by_name = {(row.case, row.recipe, row.effort): row for row in rows}
    lines = []
    for case, recipe in dict.fromkeys((row.case, row.recipe) for row in rows):
        cells = [by_name[case, recipe, effort] for effort in efforts if (case, recipe, effort) in by_name]
        numbers = [f"{100 * row.evaluation.top1:.2f} / {row.seconds:.0f}" for row in cells]
        last = cells[-1].evaluation
        lines.append((case, recipe, f"{100 * last.float_top1:.2f}", *numbers, f"{last.bytes:,}"))
    counts = {row.case: row.evaluation.samples for row in rows}
    notes = (
        f"Top-1 in % and seconds of `quantize`; {CALIBRATION} calibration samples, apart from the test samples.",
        f"Test samples: {', '.join(f'{case} {count:,}' for case, count in counts.items())}. Bytes: the last column's.",
    )
    return Table("Weight algorithms", ("model", "recipe", "float", *efforts, "bytes"), tuple(lines), notes, labels=2)


def main() -> None:
    """Measure, print, save."""
    arguments = parser(__doc__, MEASURED, CASES)
    arguments.add_argument("--recipes", type=names_of(RECIPES), default=list(RECIPES), help="comma-separated")
    arguments.add_argument("--efforts", type=names_of(EFFORTS), default=list(EFFORTS), help="comma-separated")
    options = arguments.parse_args()
    rows: list[Row] = []
    with work_folder(options.work) as work:
        for case in options.cases:
            for row in measure(case, options.recipes, options.efforts, work):
                progress(f"{case} {row.recipe} {row.effort}: {row.evaluation} {row.seconds:.1f} s")
                rows.append(row)
    present(table(rows), rows, options.output)


if __name__ == "__main__":
    main()
