"""Output SQNR and top-1 of full_int8 by observer, on trained models: `python -m benchmarks.observers`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tfq_fine as tfq
from benchmarks.arguments import parser, work_folder
from benchmarks.evaluation import Evaluation, evaluate, outputs
from benchmarks.float_files import prepared
from benchmarks.tables import Table, present, progress
from benchmarks.zoo import CASES
from tfq_fine.calibration.observers import OBSERVERS

MEASURED = (
    "raw_cnn",
    "resnet8",
    "small_mobilenet_v2",
    "efficientnet_lite0_cifar10",
    "text_transformer",
    "masked_transformer",
)
MOST = 2000  # test samples


@dataclass(frozen=True)
class Row:
    """One observer on one model."""

    case: str
    observer: str
    evaluation: Evaluation


def measure(case: str, work: Path) -> list[Row]:
    """Return a full_int8 file of every observer."""
    files = prepared(case, work)
    labels = files.labels()
    assert labels is not None, f"{case} has no labels"
    samples, path = files.test()[:MOST], work / f"{case}-observer.tflite"
    expected = outputs(files.tflite, samples)
    rows = []
    for observer in OBSERVERS:
        tfq.quantize(files.tflite, "full_int8", files.calibration(), observer=observer, progress=False).save(path)
        rows.append(Row(case, observer, evaluate(path, samples, labels[:MOST], expected)))
        progress(f"{case} {observer}: {rows[-1].evaluation}")
    return rows


def table(rows: list[Row]) -> Table:
    """Return a line per observer, a column per model."""
    cases = list(dict.fromkeys(row.case for row in rows))
    evaluations = {(row.case, row.observer): row.evaluation for row in rows}
    floats = tuple(f"{100 * evaluations[case, 'auto'].float_top1:.2f}" for case in cases)
    made = [("float", *floats)]
    for observer in dict.fromkeys(row.observer for row in rows):
        cells = [evaluations[case, observer] for case in cases]
        made.append((observer, *(f"{100 * cell.top1:.2f} / {cell.sqnr_db:.1f}" for cell in cells)))
    notes = (f"Top-1 in % / SQNR of the outputs in dB; up to {MOST} test samples, the zoo's calibration samples.",)
    return Table("Observers", ("full_int8 by", *cases), tuple(made), notes, labels=1)


def main() -> None:
    """Measure, print, save."""
    arguments = parser(__doc__, MEASURED, CASES).parse_args()
    with work_folder(arguments.work) as work:
        rows = [row for case in arguments.cases for row in measure(case, work)]
    present(table(rows), rows, arguments.output)


if __name__ == "__main__":
    main()
