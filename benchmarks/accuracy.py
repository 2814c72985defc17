"""Top-1 of every recipe on trained models, compared with the other tools: `python -m benchmarks.accuracy`.

100 calibration samples, disjoint from the test samples; every file runs on the default kernels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.arguments import names_of, parser, work_folder
from benchmarks.evaluation import Evaluation, evaluate, has_int16_activations, outputs
from benchmarks.float_files import prepared
from benchmarks.tables import Table, present, progress
from benchmarks.tool_run import ToolFailed, run_tool
from benchmarks.tools import OURS, PEERS, TOOLS
from benchmarks.zoo import CASES
from tfq_converters import flatbuffer

MEASURED = ("resnet8", "efficientnet_lite0_cifar10", "efficientnet_lite0_photos")
ACCURATE_PEERS = tuple(name for name in PEERS if not name.endswith("_as_is"))  # threads change no number
RECIPES = ("float16", "dynamic_int8", "weight_only_int8", "full_int8", "full_int16x8")
CALIBRATION = 100  # samples


@dataclass(frozen=True)
class Row:
    """The result of one tool on one case."""

    case: str
    tool: str
    evaluation: Evaluation | None
    failure: str = ""  # the tool's last words, when there is no file


def measure(case: str, tools: Iterable[str], work: Path, few: int | None) -> Iterator[Row]:
    """Return one row for every tool.

    Args:
        case: a name in `CASES`.
        tools: names in `TOOLS`.
        work: a folder for the files.
        few: test samples for files with int16 activations; all when None.
    """
    files = prepared(case, work)
    samples, labels = files.test(), files.labels()
    assert labels is not None, f"{case} has no labels"
    expected = outputs(files.tflite, samples)
    yield Row(case, "float", evaluate(files.tflite, samples, labels, expected))
    for tool in tools:
        path = work / f"{case}-{tool}.tflite"
        try:
            run_tool(tool, files, path, CALIBRATION)
        except ToolFailed as failed:
            yield Row(case, tool, None, str(failed))
            continue
        count = few if has_int16_activations(flatbuffer.read(str(path))) else None
        yield Row(case, tool, evaluate(path, samples[:count], labels[:count], expected[:count]))


def table(rows: Sequence[Row]) -> Table:
    """Return the rows as text."""
    made = []
    for row in rows:
        title = TOOLS[row.tool].title if row.tool in TOOLS else row.tool
        evaluation = row.evaluation
        if evaluation is None:
            made.append((row.case, title, "fails", "", "", "", ""))
            continue
        points = 100 * (evaluation.top1 - evaluation.float_top1)
        cells = (f"{100 * evaluation.top1:.2f}", f"{points:+.2f}", f"{evaluation.sqnr_db:.1f}", f"{evaluation.bytes:,}")
        made.append((row.case, title, *cells, f"{evaluation.samples:,}"))
    columns = ("model", "file", "top-1 %", "against float", "SQNR dB", "bytes", "test samples")
    notes = (
        f"{CALIBRATION} calibration samples. Against float: points of top-1 on the same test samples.",
        "SQNR: of the outputs against those of the float file. All files run on the default LiteRT kernels.",
    )
    return Table("Accuracy", columns, tuple(made), notes)


def main() -> None:
    """Measure, print, save."""
    arguments = parser(__doc__, MEASURED, CASES)
    arguments.add_argument("--recipes", type=names_of(OURS), default=RECIPES, help=f"of {', '.join(OURS)}")
    arguments.add_argument("--peers", type=names_of(PEERS), default=ACCURATE_PEERS, help=f"of {', '.join(PEERS)}")
    arguments.add_argument("--test", type=int, metavar="N", help="test samples for files with int16 activations")
    options = arguments.parse_args()
    rows: list[Row] = []
    with work_folder(options.work) as work:
        for case in options.cases:
            for row in measure(case, (*options.recipes, *options.peers), work, options.test):
                progress(f"{case} {row.tool}: {row.evaluation or row.failure}")
                rows.append(row)
    present(table(rows), rows, options.output)


if __name__ == "__main__":
    main()
