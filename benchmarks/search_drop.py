"""Whether a drop that a search keeps to holds on other samples: `python -m benchmarks.search_drop`.

For every seed the labelled samples are split at random: the search gets some, half of which calibrate and half of which
decide, and the finished file is compared with the float file on the others. A drop beyond the limit by less than twice
the standard error of the difference (over samples, in pairs) is noise.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tfq_fine as tfq
from benchmarks.arguments import parser, work_folder
from benchmarks.evaluation import outputs
from benchmarks.float_files import prepared
from benchmarks.tables import Table, present, progress
from benchmarks.zoo import CASES

MEASURED = ("digits", "fashion_mnist", "resnet8", "small_mobilenet_v2", "text_transformer")
MAX_DROP, SEEDS, MOST = 0.01, 10, 1024  # labelled samples for the search, at most, and at most half of all
ERRORS = 2.0  # standard errors that are noise


@dataclass(frozen=True)
class Row:
    """The file of one seed."""

    case: str
    seed: int
    bytes: int
    float_bytes: int
    drop: float  # on the samples that decided
    other_drop: float  # on the samples that the search did not see
    error: float  # its standard error
    problem: str
    seconds: float

    @property
    def is_met(self) -> bool:
        """Whether the drop on the other samples is within the limit, up to noise."""
        return self.other_drop <= MAX_DROP + ERRORS * self.error


def measure(case: str, work: Path, seeds: int) -> Iterator[Row]:
    """Yield one row for every seed."""
    files = prepared(case, work)
    samples, labels = files.test(), files.labels()
    assert labels is not None, f"{case} has no labels"
    path = work / f"{case}-drop.tflite"
    expected = outputs(files.tflite, samples)
    right = expected.argmax(-1) == labels
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(labels))
        count = min(MOST, len(labels) // 2)
        shown, others = np.sort(order[:count]), np.sort(order[count:])
        start = time.perf_counter()
        result = tfq.search(
            files.tflite,
            samples[shown],
            labels=labels[shown],
            metric="top1",
            max_drop=MAX_DROP,
            cache_dir=work / "codes",
        )
        seconds = time.perf_counter() - start
        path.write_bytes(result.content)
        after = outputs(path, samples[others]).argmax(-1) == labels[others]
        lost = right[others].astype(float) - after.astype(float)
        drop = result.point.drop
        assert drop is not None
        sizes = len(result.content), result.float_bytes
        error = float(lost.std(ddof=1) / np.sqrt(len(lost)))
        yield Row(case, seed, *sizes, drop.value, float(lost.mean()), error, result.problem, seconds)


def table(rows: Sequence[Row]) -> Table:
    """Return one line for each model."""
    lines = []
    for case in dict.fromkeys(row.case for row in rows):
        own = [row for row in rows if row.case == case]
        shares = [100 * row.bytes / row.float_bytes for row in own]
        drops = [100 * row.other_drop for row in own]
        lines.append(
            (
                case,
                f"{sum(row.is_met for row in own)} of {len(own)}",
                f"{min(shares):.1f} .. {max(shares):.1f}",
                f"{min(drops):+.2f} .. {max(drops):+.2f}",
                f"{200 * float(np.mean([row.error for row in own])):.2f}",
                f"{np.median([row.seconds for row in own]):.0f}",
            )
        )
    notes = (
        f"max_drop={MAX_DROP} in top-1 on samples that the search did not see; at most {MOST} labelled samples, or "
        "half of all, for the search.",
    )
    columns = ("model", "met", "% of the float file", "drop on other samples, points", "twice its error", "seconds")
    return Table("Drops", columns, tuple(lines), notes, labels=1)


def main() -> None:
    """Measure, print, save."""
    arguments = parser(__doc__, MEASURED, CASES)
    arguments.add_argument("--seeds", type=int, default=SEEDS)
    options = arguments.parse_args()
    rows: list[Row] = []
    with work_folder(options.work) as work:
        for case in options.cases:
            for row in measure(case, work, options.seeds):
                progress(f"{case}, seed {row.seed}: {row.bytes} bytes, {row.drop:.4f}, {row.other_drop:.4f}")
                rows.append(row)
    present(table(rows), rows, options.output)


if __name__ == "__main__":
    main()
