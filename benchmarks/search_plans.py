"""Predicted noise and bytes of random plans against those of their files: `python -m benchmarks.search_plans`.

Each layer of a plan gets a random candidate of the search; the file is put together from codes that are fitted to the
float inputs, and run on samples that nothing was fitted to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from benchmarks.arguments import measured, parser
from benchmarks.float_files import prepared
from benchmarks.tables import Table, present
from benchmarks.zoo import CASES
from tfq_converters.reading import read_model
from tfq_converters.runtime import file_runs
from tfq_fine.calibration import CalibrationData, Representative
from tfq_fine.mixed_precision.conditions import Conditions
from tfq_fine.mixed_precision.exploration import explored
from tfq_fine.mixed_precision.units import DEFAULT, candidates_of
from tfq_fine.progress import Stages

MEASURED = ("resnet8", "small_mobilenet_v2", "text_transformer")
PLANS, CALIBRATION = 30, 512


@dataclass(frozen=True)
class Row:
    """One plan."""

    case: str
    predicted_db: float
    db: float
    predicted_bytes: int
    bytes: int


def measure(case: str, work: Path) -> Iterator[Row]:
    """Yield one row for every random plan."""
    files = prepared(case, work)
    source = read_model(str(files.tflite))
    material = Representative(CalibrationData(files.calibration()[:CALIBRATION]))
    size, rng, conditions = files.tflite.stat().st_size, np.random.default_rng(0), Conditions(cache_dir=work / "codes")
    candidates = candidates_of(DEFAULT)
    with file_runs() as runs:
        table = explored(source.graph, material, candidates, conditions, runs, Stages(), size)
        for _ in range(PLANS):
            choice = {unit: candidates[rng.integers(len(candidates))] for unit in table.units}
            predicted = -10 * float(np.log10(max(table.predicted_loss(choice), 1e-12)))
            measured = table.plans.decibels(choice)
            yield Row(case, predicted, measured, table.predicted_bytes(choice), table.plans.size(choice))


def table(rows: Sequence[Row]) -> Table:
    """Return one line for each model."""
    lines = []
    for case in dict.fromkeys(row.case for row in rows):
        own = [row for row in rows if row.case == case]
        rank = spearmanr([row.predicted_db for row in own], [row.db for row in own]).statistic
        off = [row.predicted_bytes / row.bytes - 1 for row in own]
        least, most = min(row.db for row in own), max(row.db for row in own)
        lines.append(
            (case, f"{rank:.3f}", f"{least:.1f} .. {most:.1f}", f"{100 * min(off):+.1f} .. {100 * max(off):+.1f}")
        )
    notes = (f"{PLANS} random plans for each model; {CALIBRATION} calibration samples or as many as there are.",)
    columns = ("model", "Spearman", "SQNR of the files, dB", "bytes predicted, % off")
    return Table("Random plans", columns, tuple(lines), notes, labels=1)


def main() -> None:
    """Measure, print, save."""
    arguments = parser(__doc__, MEASURED, CASES).parse_args()
    rows = measured(
        arguments,
        measure,
        lambda case, row: f"{case}: {row.predicted_db:.1f} {row.db:.1f} dB, {row.predicted_bytes} {row.bytes} bytes",
    )
    present(table(rows), rows, arguments.output)


if __name__ == "__main__":
    main()
