"""Whether a recipe's file is slower than float, on every case of the zoo: `python -m benchmarks.latency`.

Files are quantized by name of the recipe with default settings, and timed in turns with the float file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.arguments import names_of, parser, work_folder
from benchmarks.evaluation import has_int16_activations
from benchmarks.file_latency import time_files
from benchmarks.float_files import Files, prepared
from benchmarks.tables import Table, present, progress
from benchmarks.tool_run import ToolFailed, run_tool
from benchmarks.tools import OURS
from benchmarks.zoo import CASES
from tfq_converters import flatbuffer

SECONDS_PER_FILE = 3.0
SLOWER = 1.02  # a ratio that may be noise
AGAIN = "float again"  # the float file once more, which shows how much is noise


@dataclass(frozen=True)
class Row:
    """One recipe's file of one case, or the float file once more."""

    case: str
    recipe: str
    ms: float
    float_ms: float
    ratio: float  # median over the rounds
    int16: bool  # has activations that CPU kernels are slow on, as users are told


def measure(case: str, recipes: Sequence[str], work: Path) -> list[Row]:
    """Return one row for every recipe that gives a file."""
    files = prepared(case, work)
    paths = {recipe: work / f"{case}-{recipe}.tflite" for recipe in recipes}
    for recipe in recipes:
        try:
            run_tool(recipe, files, paths[recipe])
        except ToolFailed as failed:
            progress(str(failed))
            del paths[recipe]
    # slow ones apart, or they would leave the others few rounds
    slow = {recipe for recipe, path in paths.items() if has_int16_activations(flatbuffer.read(str(path)))}
    fast = {recipe: path for recipe, path in paths.items() if recipe not in slow}
    rows = _time(case, files, {AGAIN: files.tflite, **fast}, False)
    rows += _time(case, files, {recipe: paths[recipe] for recipe in slow}, True) if slow else []
    progress("\n".join(map(str, rows)))
    return rows


def _time(case: str, files: Files, paths: Mapping[str, Path], int16: bool) -> list[Row]:
    times = time_files({"float": files.tflite, **paths}, files.test()[:1], SECONDS_PER_FILE * (len(paths) + 1))
    floats = times.median("float") / 1e6
    return [Row(case, r, times.median(r) / 1e6, floats, times.ratio(r, "float"), int16) for r in paths]


def offenders(rows: Sequence[Row]) -> list[Row]:
    """Return the files without int16 that are slower than float by more than the noise between float runs."""
    noise = {row.case: max(row.ratio, 2 - row.ratio) for row in rows if row.recipe == AGAIN}
    return [row for row in rows if not row.int16 and row.ratio > max(SLOWER, noise.get(row.case, 1.0))]


def table(rows: Sequence[Row]) -> Table:
    """Return a line for every case, a column for every recipe; offenders in bold."""
    slower = offenders(rows)
    recipes = list(dict.fromkeys(row.recipe for row in rows))
    cases = list(dict.fromkeys(row.case for row in rows))
    ratios = {(row.case, row.recipe): f"**{row.ratio:.2f}**" if row in slower else f"{row.ratio:.2f}" for row in rows}
    floats = {row.case: f"{row.float_ms:.3f}" for row in rows}
    made = [(case, floats[case], *(ratios.get((case, recipe), "–") for recipe in recipes)) for case in cases]
    named = ", ".join(f"{row.case} {row.recipe} {row.ratio:.2f}" for row in slower)
    notes = (
        "CPU time of one sample to that of the float file, in turns; one thread, default LiteRT kernels.",
        f"{AGAIN}: the same file opened twice, which shows what is noise.",
        f"Slower than float (above {SLOWER} and above noise, int16 activations aside): {named or 'none'}.",
    )
    return Table("Latency to float", ("model", "float ms", *recipes), tuple(made), notes, labels=1)


def main() -> None:
    """Measure, print, save."""
    arguments = parser(__doc__, tuple(CASES), CASES)
    arguments.add_argument("--recipes", type=names_of(OURS), default=tuple(OURS), help=f"of {', '.join(OURS)}")
    options = arguments.parse_args()
    with work_folder(options.work) as work:
        rows = [row for case in options.cases for row in measure(case, options.recipes, work)]
    present(table(rows), rows, options.output)


if __name__ == "__main__":
    main()
