"""Whether a recipe's file is slower than float, on every case of the zoo: `python -m benchmarks.latency`.

Files are quantized by name of the recipe with default settings, and timed in turns with the float file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.arguments import names_of, parser, work_folder
from benchmarks.evaluation import has_int16_activations
from benchmarks.file_latency import time_files
from benchmarks.float_files import prepared
from benchmarks.tables import Table, progress, save
from benchmarks.tool_run import ToolFailed, run_tool
from benchmarks.tools import OURS
from benchmarks.zoo import CASES
from tfq_converters import flatbuffer

SECONDS_PER_FILE = 3.0
SLOWER = 1.02  # ratios up to here are noise: two copies of one file differ by as much


@dataclass(frozen=True)
class Row:
    """One recipe's file of one case."""

    case: str
    recipe: str
    ms: float
    float_ms: float
    ratio: float  # median over the rounds
    int16: bool  # has activations that CPU kernels are slow on, as users are told

    @property
    def offends(self) -> bool:
        """Slower than float, though it need not be."""
        return self.ratio > SLOWER and not self.int16


def measure(case: str, recipes: Sequence[str], work: Path) -> list[Row]:
    """One row for every recipe that gives a file."""
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
    rows = []
    for group in (paths.keys() - slow, slow):
        timed = {"float": files.tflite, **{recipe: path for recipe, path in paths.items() if recipe in group}}
        times = time_files(timed, files.test()[:1], SECONDS_PER_FILE * len(timed))
        floats = times.median("float") / 1e6
        rows += [
            Row(case, recipe, times.median(recipe) / 1e6, floats, times.ratio(recipe, "float"), recipe in slow)
            for recipe in timed
            if recipe != "float"
        ]
    progress("\n".join(map(str, rows)))
    return rows


def table(rows: Sequence[Row]) -> Table:
    """A line for every case, a column for every recipe; offenders in bold."""
    recipes = list(dict.fromkeys(row.recipe for row in rows))
    cases = list(dict.fromkeys(row.case for row in rows))
    ratios = {(row.case, row.recipe): f"**{row.ratio:.2f}**" if row.offends else f"{row.ratio:.2f}" for row in rows}
    floats = {row.case: f"{row.float_ms:.3f}" for row in rows}
    made = [(case, floats[case], *(ratios.get((case, recipe), "–") for recipe in recipes)) for case in cases]
    offenders = ", ".join(f"{row.case} {row.recipe} {row.ratio:.2f}" for row in rows if row.offends)
    notes = (
        "CPU time of one sample to that of the float file, in turns; one thread, default LiteRT kernels.",
        f"Slower than float (above {SLOWER}, int16 activations aside): {offenders or 'none'}.",
    )
    return Table("Latency to float", ("model", "float ms", *recipes), tuple(made), notes, labels=1)


def main() -> None:
    """Measure, print, save."""
    arguments = parser(__doc__, tuple(CASES), CASES)
    arguments.add_argument("--recipes", type=names_of(OURS), default=tuple(OURS), help=f"of {', '.join(OURS)}")
    given = arguments.parse_args()
    with work_folder(given.work) as work:
        rows = [row for case in given.cases for row in measure(case, given.recipes, work)]
    made = table(rows)
    made.show()
    if given.output:
        save(given.output, [made], {"rows": [asdict(row) for row in rows]})


if __name__ == "__main__":
    main()
