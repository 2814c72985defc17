"""The choice of the search against all choices for a small model: `python -m benchmarks.search_exhaustive`.

Every choice of four candidates is put together; among those whose file has at most a given size, the least sum of
losses is compared with that of the search's choice, and the best of all files with the one that the search ends with.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.arguments import measured, parser
from benchmarks.float_files import prepared
from benchmarks.tables import Table, present
from benchmarks.zoo import CASES
from tfq_converters.reading import read_model
from tfq_converters.runtime import file_runs
from tfq_fine.calibration import CalibrationData, Representative
from tfq_fine.mixed_precision.conditions import Conditions
from tfq_fine.mixed_precision.exploration import explored
from tfq_fine.mixed_precision.units import candidates_of
from tfq_fine.mixed_precision.within_bytes import best_start, best_within, refined
from tfq_fine.progress import Stages

MEASURED = ("digits",)  # with up to 6 layers
CANDIDATES = ("weight_only_int8", "weight_only_int4_block32", "weight_only_int4", "weight_only_int2")
CALIBRATION, SIZES = 512, 9


@dataclass(frozen=True)
class Row:
    """One size."""

    case: str
    most: int
    fitting: int  # choices whose file has at most that size
    loss: float  # the sum of the search's choice
    least: float  # the least sum of all that fit
    db: float  # SQNR of the file that the search puts together in the end
    best_db: float  # SQNR of the best file of all that fit


def measure(case: str, work: Path) -> Iterator[Row]:
    """Yield one row for every size."""
    files = prepared(case, work)
    source, whole = read_model(str(files.tflite)), files.tflite.stat().st_size
    material, conditions = Representative(CalibrationData(files.calibration(CALIBRATION))), Conditions()
    with file_runs() as runs:
        table = explored(source.graph, material, candidates_of(CANDIDATES), conditions, runs, Stages(), whole)
        plans, units = table.plans, table.units
        every = [dict(zip(units, c, strict=True)) for c in itertools.product(table.candidates, repeat=len(units))]
        sizes, decibels = [plans.size(one) for one in every], [plans.decibels(one) for one in every]
        for most in np.linspace(min(sizes), max(sizes), SIZES).astype(int).tolist():
            fits = [n for n, size in enumerate(sizes) if size <= most]
            choice, final = best_within(table, most), refined(table, best_start(table, most), most)
            least = min(table.predicted_loss(every[n]) for n in fits)
            best = max(decibels[n] for n in fits)
            yield Row(case, most, len(fits), table.predicted_loss(choice), least, plans.decibels(final), best)


def table(rows: Sequence[Row]) -> Table:
    """Return one line for each size."""
    lines = [
        (
            row.case,
            f"{row.most:,}",
            str(row.fitting),
            f"{row.loss / row.least:.4f}",
            f"{row.db:.2f}",
            f"{row.best_db:.2f}",
        )
        for row in rows
    ]
    notes = (f"All choices of {', '.join(CANDIDATES)}.",)
    columns = ("model", "bytes at most", "choices that fit", "loss / least loss", "SQNR, dB", "best of all, dB")
    return Table("All choices", columns, tuple(lines), notes, labels=1)


def main() -> None:
    """Measure, print, save."""
    arguments = parser(__doc__, MEASURED, CASES).parse_args()
    rows = measured(arguments, measure, lambda case, row: f"{case}: {row}")
    present(table(rows), rows, arguments.output)


if __name__ == "__main__":
    main()
