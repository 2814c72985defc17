"""Time of a first search, and of searches with other budgets after it: `python -m benchmarks.search_time`.

CPU seconds, of this process and its children, tell how long a search takes where other programs run, too.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tfq_fine as tfq
from benchmarks.arguments import measured, parser, work_folder
from benchmarks.float_files import prepared
from benchmarks.tables import Table, present
from benchmarks.zoo import CASES

MEASURED = ("resnet8", "efficientnet_lite0_cifar10")
CANDIDATES = ("float16", "weight_only_int8", "weight_only_int4_block32", "weight_only_int2_block32")
SAMPLES, SHARES = 64, (0.25, 0.28, 0.23, 0.17)


@dataclass(frozen=True)
class Row:
    """One search."""

    case: str
    share: float
    refits: bool
    db: float
    seconds: float
    cpu_s: float


def measure(case: str, work: Path) -> Iterator[Row]:
    """Yield one row for every search; each share after the first with and without `refit`."""
    files = prepared(case, work)
    data = files.calibration(SAMPLES)
    with work_folder(None) as codes:
        for n, share in enumerate(SHARES):
            for refits in (False, True) if n else (True,):
                start, cpu = time.perf_counter(), _cpu_seconds()
                options = {"candidates": CANDIDATES, "cache_dir": codes, "refit": refits}
                result = tfq.search(files.tflite, data, max_bytes=share, **options)  # type: ignore[arg-type]
                seconds, cpu = time.perf_counter() - start, _cpu_seconds() - cpu
                yield Row(case, share, refits, result.point.sqnr_db, seconds, cpu)


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def table(rows: Sequence[Row]) -> Table:
    """Return one line for each search."""
    lines = [
        (
            row.case,
            f"{100 * row.share:g}",
            "yes" if row.refits else "no",
            *(f"{x:.1f}" for x in (row.db, row.seconds, row.cpu_s)),
        )
        for row in rows
    ]
    notes = (f"{SAMPLES} samples, {len(CANDIDATES)} candidates, one after the other with one `cache_dir`.",)
    return Table(
        "Searches",
        ("model", "at most, %", "refit", "SQNR, dB", "seconds", "CPU seconds"),
        tuple(lines),
        notes,
        labels=1,
    )


def main() -> None:
    """Measure, print, save."""
    arguments = parser(__doc__, MEASURED, CASES).parse_args()
    rows = measured(arguments, measure, lambda case, row: f"{case}: {row}")
    present(table(rows), rows, arguments.output)


if __name__ == "__main__":
    main()
