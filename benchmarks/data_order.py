"""The effect of the order of the calibration data on full_int8: `python -m benchmarks.data_order`.

The same 100 samples as they come, reversed, sorted by brightness and by the class that the float model gives them; and
with the first eight of them blank. Outputs are compared with those of the float file on test samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tfq_fine as tfq
from benchmarks.arguments import parser, work_folder
from benchmarks.evaluation import Evaluation, evaluate, outputs
from benchmarks.float_files import Files, prepared
from benchmarks.tables import Table, present, progress
from benchmarks.zoo import CASES

MEASURED = ("raw_cnn", "resnet8", "small_mobilenet_v2", "efficientnet_lite0_cifar10", "text_transformer")
CALIBRATION, BLANK = 100, 8  # samples
ORDERS = ("as they come", "reversed", "by brightness", "by class", "blanks first")


@dataclass(frozen=True)
class Row:
    """One order of the data of one case."""

    case: str
    order: str
    evaluation: Evaluation


def ordered(samples: np.ndarray, order: str, files: Files) -> np.ndarray:
    """Return the samples (n, *input) in one of `ORDERS`."""
    if order == "reversed":
        return samples[::-1]
    if order == "by brightness":
        return samples[np.argsort(samples.reshape(len(samples), -1).mean(axis=1), kind="stable")]
    if order == "by class":
        return samples[np.argsort(outputs(files.tflite, samples).argmax(axis=1), kind="stable")]
    if order == "blanks first":
        return np.concatenate([np.full_like(samples[:BLANK], samples.min()), samples[BLANK:]])
    return samples


def measure(case: str, work: Path, test: int) -> Iterator[Row]:
    """Return one row for every order."""
    files = prepared(case, work)
    samples, labels = files.test()[:test], files.labels()
    assert labels is not None, f"{case} has no labels"
    expected = outputs(files.tflite, samples)
    for order in ORDERS:
        path = work / f"{case}-order.tflite"
        data = ordered(files.calibration()[:CALIBRATION], order, files)
        path.write_bytes(tfq.quantize(files.tflite, "full_int8", data).content)
        yield Row(case, order, evaluate(path, samples, labels[:test], expected))


def table(rows: Sequence[Row]) -> Table:
    """Return one line per case, one column per order."""
    evaluations = {(row.case, row.order): row.evaluation for row in rows}
    lines = []
    for case in dict.fromkeys(row.case for row in rows):
        each = [evaluations[case, order] for order in ORDERS]
        spread = max(e.sqnr_db for e in each) - min(e.sqnr_db for e in each)
        cells = (f"{100 * e.top1:.2f} / {e.sqnr_db:.1f}" for e in each)
        lines.append((case, f"{100 * each[0].float_top1:.2f}", *cells, f"{spread:.1f}"))
    notes = ("Top-1 in %, and SQNR of the outputs in dB; full_int8, 100 calibration samples.",)
    return Table("Order of the data", ("model", "float", *ORDERS, "spread dB"), tuple(lines), notes, labels=1)


def main() -> None:
    """Measure, print the table, save it."""
    arguments = parser(__doc__, MEASURED, CASES)
    arguments.add_argument("--test", type=int, default=1000, help="test samples")
    options = arguments.parse_args()
    rows: list[Row] = []
    with work_folder(options.work) as work:
        for case in options.cases:
            for row in measure(case, work, options.test):
                progress(f"{case} {row.order}: {row.evaluation}")
                rows.append(row)
    present(table(rows), rows, options.output)


if __name__ == "__main__":
    main()
