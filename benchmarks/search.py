"""Searched files against uniform ones and against bisection by depth, at equal sizes: `python -m benchmarks.search`.

Every file is at most so many percent of the float file. Uniform files are those of all recipes with the same quality
and `prefer="size"`, and those of litert-quantizer with its best algorithms. Bisection by depth is the method of ONE's
circle-mpqsolver, as its documentation describes it: the layers on one side of a depth get fewer bits than those on the
other, and the depth is bisected; both sides are tried, with 8 and 4 and with 4 and 2 bits, and the file of highest SQNR
on the calibration samples stands.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import tfq_fine as tfq
from benchmarks.arguments import parser, work_folder
from benchmarks.equal_settings_peer import peer_tools
from benchmarks.evaluation import Evaluation, evaluate, has_int16_activations, outputs
from benchmarks.float_files import Files, prepared
from benchmarks.tables import Table, present, progress
from benchmarks.tool_run import ToolFailed, run_tool
from benchmarks.zoo import CASES
from tfq_converters import flatbuffer
from tfq_converters.operators import weight_axes
from tfq_converters.reading import read_model
from tfq_fine.api import Result

MEASURED = ("resnet8", "efficientnet_lite0_cifar10", "text_transformer")
SHARES = (0.5, 0.375, 0.25, 0.1875, 0.125)
CALIBRATION = 512  # samples
PEERS = (  # files of litert-quantizer
    *(peer_tools(setting)["gptq"] for setting in ("w4", "w4_block32", "w2_dense")),
    *(peer_tools(setting)[f"octav, {range_of}"] for setting in ("int8", "w4a8") for range_of in ("moving", "extremes")),
)
SMALLER = 0.9  # times the size of a file that is bisected by depth
LADDER = ("weight_only_int8", "weight_only_int4_block32", "weight_only_int2_block32")  # recipes, fine to coarse


@dataclass(frozen=True)
class Row:
    """One file of one way at one size."""

    case: str
    share: float
    way: str
    name: str  # the recipe of a uniform file
    evaluation: Evaluation
    seconds: float


def measure(case: str, shares: Sequence[float], work: Path, test: int | None) -> Iterator[Row]:
    """Yield, for every size, the searched file, the best uniform files of at most that size, and bisection's."""
    files = prepared(case, work)
    samples, labels = files.test()[:test], files.labels()
    assert labels is not None, f"{case} has no labels"
    labels = labels[:test]
    expected = outputs(files.tflite, samples)
    whole = files.tflite.stat().st_size
    path = work / f"{case}-search.tflite"

    def evaluated(content: bytes) -> Evaluation:
        path.write_bytes(content)
        return evaluate(path, samples, labels, expected)

    yield Row(case, 1.0, "float", "", evaluated(files.tflite.read_bytes()), 0.0)
    uniform: list[tuple[str, Evaluation, float]] = []
    for name in tfq.RECIPES:
        start = time.perf_counter()
        content = _quantized(files, tfq.RECIPES[name], work)
        if not has_int16_activations(flatbuffer.read(content)):
            uniform.append((name, evaluated(content), time.perf_counter() - start))
            progress(f"{case} {name}: {uniform[-1][1]}")
    for name in PEERS:
        try:
            run = run_tool(name, files, path, CALIBRATION)
        except ToolFailed as error:
            progress(f"{case} {name}: {error}")
            continue
        uniform.append((name, evaluated(path.read_bytes()), run.seconds))
        progress(f"{case} {name}: {uniform[-1][1]}")
    for share in shares:
        start = time.perf_counter()
        yield Row(case, share, "searched", "", evaluated(_searched(files, share, work)), time.perf_counter() - start)
        fitting = [row for row in uniform if row[1].bytes <= share * whole]
        for way, key in (("uniform, best top-1", "top1"), ("uniform, best SQNR", "sqnr_db")):
            if fitting:
                name, evaluation, seconds = max(fitting, key=lambda row: getattr(row[1], key))
                yield Row(case, share, way, name, evaluation, seconds)
        start = time.perf_counter()
        bisected = by_depth(files, int(share * whole), work)
        if bisected is not None:
            yield Row(case, share, "bisected by depth", "", evaluated(bisected), time.perf_counter() - start)
            start, most = time.perf_counter(), int(SMALLER * len(bisected))
            with suppress(tfq.TfqError):  # no file is that small
                smaller = evaluated(_searched(files, most, work))
                yield Row(case, share, "searched, smaller than by depth", "", smaller, time.perf_counter() - start)


def _searched(files: Files, most: float, work: Path) -> bytes:
    data = files.calibration()[:CALIBRATION]
    return tfq.search(files.tflite, data, max_bytes=most, cache_dir=work / "codes").content


def _quantized(files: Files, recipe: tfq.Recipe, work: Path) -> bytes:
    data = files.calibration()[:CALIBRATION]
    return tfq.quantize(files.tflite, recipe, data, prefer="size", cache_dir=work / "codes").content


def by_depth(files: Files, most: int, work: Path) -> bytes | None:
    """Return the best file of at most `most` bytes in which layers on one side of a depth have fewer bits."""
    graph = read_model(str(files.tflite)).graph
    layers = [op.layer for op in graph.main.ops if weight_axes(op, graph.main)]
    files_of_depths: list[tuple[float, bytes]] = []
    for (fine, coarse), front in itertools.product(itertools.pairwise(LADDER), (True, False)):

        def recipe(depth: int, fine: str = fine, coarse: str = coarse, front: bool = front) -> tfq.Recipe:
            """Give the first, or last, `depth` layers more bits than the others."""
            kept = layers[:depth] if front else layers[len(layers) - depth :]
            rules = (tfq.Rule(tfq.RECIPES[fine].default, layer=layer) for layer in dict.fromkeys(kept))
            return tfq.Recipe("by depth", tfq.RECIPES[coarse].default, tuple(rules), flexible=True)

        def fits(depth: int, recipe: Callable[[int], tfq.Recipe] = recipe) -> bool:
            """Make the file without data: it has as many bytes."""
            return len(tfq.quantize(files.tflite, recipe(depth), prefer="size").content) <= most

        low, high = 0, len(layers)
        if not fits(0):
            continue
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
        data = files.calibration()[:CALIBRATION]
        result = tfq.quantize(files.tflite, recipe(low), data, prefer="size", cache_dir=work / "codes")
        files_of_depths.append((_sqnr(result), result.content))
    return max(files_of_depths)[1] if files_of_depths else None


def _sqnr(result: Result) -> float:
    verdict = result.report.verdict
    return min((output.sqnr for output in verdict.outputs), default=0.0) if verdict else 0.0


def table(rows: Sequence[Row]) -> Table:
    """Return one line for each file."""
    lines = []
    for row in rows:
        evaluation = row.evaluation
        share = "" if row.way == "float" else f"{100 * row.share:g} %"
        top1, others = f"{100 * evaluation.top1:.2f}", str(evaluation.others)
        numbers = f"{evaluation.bytes:,}", top1, others, f"{evaluation.sqnr_db:.1f}"
        lines.append((row.case, share, row.way, row.name, *numbers, f"{row.seconds:.0f}"))
    counts = {row.case: row.evaluation.samples for row in rows}
    notes = (
        "Top-1 in %, the number of samples that the float file puts into another class, SQNR of the outputs "
        "in dB, seconds of the search, or of `quantize`, with codes kept from files "
        "before.",
        f"Test samples: {', '.join(f'{case} {count:,}' for case, count in counts.items())}.",
    )
    columns = ("model", "at most", "file", "recipe", "bytes", "top-1", "others", "SQNR", "seconds")
    return Table("Search", columns, tuple(lines), notes, labels=4)


def main() -> None:
    """Measure, print, save."""
    arguments = parser(__doc__, MEASURED, CASES)
    arguments.add_argument("--shares", type=lambda text: [float(s) for s in text.split(",")], default=list(SHARES))
    arguments.add_argument("--test", type=int, help="evaluate on the first N test samples")
    options = arguments.parse_args()
    rows: list[Row] = []
    with work_folder(options.work) as work:
        for case in options.cases:
            for row in measure(case, options.shares, work, options.test):
                progress(f"{case} {row.share} {row.way} {row.name}: {row.evaluation} {row.seconds:.1f} s")
                rows.append(row)
    present(table(rows), rows, options.output)


if __name__ == "__main__":
    main()
