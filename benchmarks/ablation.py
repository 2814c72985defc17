"""The gain of every transform in full_int8, alone and left out, and of all of them: `python -m benchmarks.ablation`.

100 calibration samples, disjoint from the test samples; every file runs on the default kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tfq_fine as tfq
from benchmarks.arguments import measured, parser
from benchmarks.evaluation import Evaluation, evaluate, outputs
from benchmarks.float_files import Files, prepared
from benchmarks.tables import Table, present
from benchmarks.tool_run import run_tool
from benchmarks.zoo import CASES
from tfq_fine.variants.transform_table import TRANSFORMS

MEASURED = ("raw_cnn", "resnet8", "small_mobilenet_v2", "efficientnet_lite0_cifar10", "masked_transformer")
CALIBRATION = 100  # samples
CONVERTER = "TFLiteConverter int8"
SETTINGS: dict[str, tuple[str, ...]] = {
    "all off": (),
    **{f"{name} alone": (name,) for name in TRANSFORMS},
    **{f"without {name}": tuple(other for other in TRANSFORMS if other != name) for name in TRANSFORMS},
    "all on": tuple(TRANSFORMS),
}


@dataclass(frozen=True)
class Row:
    """One setting on one case."""

    case: str
    setting: str
    evaluation: Evaluation
    applied: tuple[str, ...] = ()  # the transforms that stayed


def measure(case: str, work: Path) -> Iterator[Row]:
    """Return one row for every setting, and for the converter; the same file is measured once."""
    files = prepared(case, work)
    samples, labels = files.test(), files.labels()
    assert labels is not None, f"{case} has no labels"
    expected = outputs(files.tflite, samples)
    yield Row(case, "float", evaluate(files.tflite, samples, labels, expected))
    evaluations: dict[bytes, Evaluation] = {}
    for setting, transforms in SETTINGS.items():
        path = work / f"{case}-ablation.tflite"
        content, applied = _quantized(files, transforms)
        path.write_bytes(content)
        if content not in evaluations:
            evaluations[content] = evaluate(path, samples, labels, expected)
        yield Row(case, setting, evaluations[content], applied)
    path = work / f"{case}-converter.tflite"
    run_tool("tflite_converter_int8", files, path, CALIBRATION)
    yield Row(case, CONVERTER, evaluate(path, samples, labels, expected))


def _quantized(files: Files, transforms: tuple[str, ...]) -> tuple[bytes, tuple[str, ...]]:
    """Return the file, and the transforms that stayed."""
    result = tfq.quantize(files.tflite, "full_int8", files.calibration()[:CALIBRATION], transforms=transforms)
    return result.content, tuple(row.name for row in result.report.transforms if row.applied)


def table(rows: Sequence[Row]) -> Table:
    """Return one line per setting, one column per model."""
    cases = list(dict.fromkeys(row.case for row in rows))
    by_setting = {(row.case, row.setting): row for row in rows}
    lines = [
        (setting, *(_cell(by_setting[case, setting].evaluation) for case in cases))
        for setting in ("float", *SETTINGS, CONVERTER)
    ]
    on = (f"{case}: {', '.join(by_setting[case, 'all on'].applied) or 'none'}" for case in cases)
    samples = (f"{case}: {by_setting[case, 'float'].evaluation.samples:,}" for case in cases)
    notes = (
        "Top-1 in %, and SQNR of the outputs in dB; full_int8, 100 calibration samples.",
        f"Test samples: {'; '.join(samples)}.",
        f"What stayed of all: {'; '.join(on)}.",
    )
    return Table("Transforms", ("full_int8 with transforms", *cases), tuple(lines), notes, labels=1)


def _cell(found: Evaluation) -> str:
    return f"{100 * found.top1:.2f} / {found.sqnr_db:.1f}"


def main() -> None:
    """Measure, print, save."""
    arguments = parser(__doc__, MEASURED, CASES).parse_args()
    rows = measured(
        arguments, measure, lambda case, row: f"{case} {row.setting}: {row.evaluation} {', '.join(row.applied)}"
    )
    present(table(rows), rows, arguments.output)


if __name__ == "__main__":
    main()
