"""Size, accuracy and speed of each granularity and width, against litert-quantizer: `python -m benchmarks.granularity`.

Three files for every setting: tfq_fine's at its defaults; litert-quantizer's, if it has such a setting; and
tfq_fine's "equal" one: plain rounding of the same operators to the same borders, which is what theirs does.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from math import isnan
from pathlib import Path

from benchmarks.arguments import parser, work_folder
from benchmarks.evaluation import outputs
from benchmarks.file_latency import time_files
from benchmarks.file_outputs import outputs_apart
from benchmarks.float_files import prepared
from benchmarks.granularity_figure import draw
from benchmarks.granularity_files import Made, Maker, agreement, float_codes, quantizes_nothing, tfq_graph
from benchmarks.granularity_settings import SETTINGS, Setting, matching
from benchmarks.tables import Table, progress, save
from benchmarks.zoo import CASES
from tfq_converters import flatbuffer
from tfq_fine.numerics.errors import ErrorSums
from tfq_fine.verification.task_metrics import top1

MEASURED = ("resnet8", "efficientnet_lite0_cifar10")
TEST = {"resnet8": 2000}  # samples; else:
FEW = 200
CALIBRATION = 100  # samples
SECONDS_PER_FILE, FILES_AT_ONCE = 1.0, 12
WORSE_DB, BIGGER = 0.2, 1.01  # how much worse or bigger than theirs an equal file counts as such


@dataclass(frozen=True)
class File:
    """The quality, size and speed of one file."""

    bytes: int
    top1: float | None  # None where the case has no labels
    agreement: float  # with the float file
    sqnr_db: float  # NaN where an output is
    latency: float | None = None  # to the float file
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One setting of one case."""

    case: str
    setting: str
    ours: File | None
    equal: File | None
    theirs: File | None
    failure: str = ""  # why there is none of ours
    peer: str = ""  # why there is none of theirs, or what it leaves in float

    @property
    def falls_short(self) -> str:
        """Return in which figures the "equal" file is worse than theirs."""
        if self.equal is None or self.theirs is None or isnan(self.theirs.sqnr_db):
            return ""
        worse = self.theirs.sqnr_db - self.equal.sqnr_db > WORSE_DB
        bigger = self.equal.bytes > BIGGER * self.theirs.bytes
        return " and ".join(word for word, holds in (("SQNR", worse), ("size", bigger)) if holds)


class Bench:
    """Measures the files of one case; equal files once."""

    def __init__(self, case: str, work: Path, test: int | None):
        self.case, self.files = case, prepared(case, work)
        self.maker = Maker(self.files, work, CALIBRATION)
        self.count = min(test or TEST.get(case, FEW), len(self.files.test()))
        self.expected = outputs(self.files.tflite, self.files.test()[: self.count])
        self._known: dict[str, File | str] = {}
        self.paths: dict[str, Path] = {}  # digest -> one file with that content that runs

    def row(self, setting: Setting) -> Row:
        """Make and measure all files of a setting."""
        theirs, peer, equal = self._theirs(setting)
        made = self.maker.ours(setting)
        ours = self.measured(made)
        failure = ours if isinstance(ours, str) else ""
        return Row(self.case, setting.name, _file(ours), equal, theirs, failure, peer)

    def measured(self, made: Made) -> File | str:
        """Return the figures of a file, or the reason why it has none."""
        if made.path is None:
            return made.note
        digest = sha256(made.path.read_bytes()).hexdigest()
        if digest not in self._known:
            self._known[digest] = self._evaluated(made.path)
            if isinstance(self._known[digest], File):
                self.paths[digest] = made.path
        quality = self._known[digest]
        return replace(quality, note=f"{made.note}#{digest}") if isinstance(quality, File) else quality

    def _evaluated(self, path: Path) -> File | str:
        values = outputs_apart(path, self.files.folder / "test.npy", self.count)
        if isinstance(values, str):
            return values
        labels = self.files.labels()
        right = None if labels is None else top1(values, labels[: self.count])
        errors = ErrorSums.of(self.expected, values)
        return File(path.stat().st_size, right, agreement(self.expected, values), errors.sqnr_db)

    def _theirs(self, setting: Setting) -> tuple[File | None, str, File | None]:
        """Return their file, a note on it, and our "equal" file."""
        if not setting.peer:
            return None, "", None
        made = self.maker.theirs(setting)
        if made.path is None:
            return None, f"refuses: {made.note}", None
        graph = flatbuffer.read(str(made.path))
        if quantizes_nothing(graph):
            return None, "quantizes no weights", None
        kept = float_codes(tfq_graph(self.files), graph, setting.spec.mode)
        peer = f"leaves float: {', '.join(kept)}" if kept else ""
        quality = self.measured(made)
        if isinstance(quality, str):
            return None, f"its file does not run: {quality}", None
        peer = "; ".join(filter(None, ("outputs NaN" if isnan(quality.sqnr_db) else "", peer)))
        equal = self.measured(self.maker.equal(setting, graph))
        return quality, f"{peer}; the equal one fails: {equal}" if isinstance(equal, str) else peer, _file(equal)

    def timed(self, rows: Iterable[Row]) -> list[Row]:
        """Return the rows with latencies: every file that runs, in turns with the float one."""
        ratios: dict[str, float] = {}
        digests = list(self.paths)
        for start in range(0, len(digests), FILES_AT_ONCE):
            part = {digest: self.paths[digest] for digest in digests[start : start + FILES_AT_ONCE]}
            timed = {"float": self.files.tflite, **part}
            times = time_files(timed, self.files.test()[:1], SECONDS_PER_FILE * len(timed))
            ratios |= {digest: times.ratio(digest, "float") for digest in part}
        return [
            replace(row, **{name: _timed(getattr(row, name), ratios) for name in ("ours", "equal", "theirs")})
            for row in rows
        ]


def _file(found: File | str) -> File | None:
    return found if isinstance(found, File) else None


def _timed(file: File | None, ratios: Mapping[str, float]) -> File | None:
    if file is None:
        return None
    note, _, digest = file.note.rpartition("#")
    return replace(file, note=note, latency=ratios[digest])


def measure(case: str, settings: Sequence[Setting], work: Path, test: int | None) -> list[Row]:
    """Return all settings of one case."""
    bench = Bench(case, work, test)
    rows = []
    for setting in settings:
        rows.append(bench.row(setting))
        progress(str(rows[-1]))
    return bench.timed(rows)


def ours_table(rows: Sequence[Row]) -> Table:
    """Return the file of tfq_fine at its defaults."""
    made = []
    for row in rows:
        cells = _cells(row.ours)
        made.append((row.case, row.setting, *cells, row.ours.note if row.ours else f"fails: {row.failure}"))
    columns = ("model", "setting", "bytes", "top-1 %", "agreement %", "SQNR dB", "latency", "weights")
    notes = (
        f"{CALIBRATION} calibration samples. Agreement, SQNR of the outputs and latency: to the float file.",
        "Latency: CPU time of one sample in turns with float, default LiteRT kernels, one thread.",
    )
    return Table("tfq_fine at every granularity", columns, tuple(made), notes)


def peer_table(rows: Sequence[Row]) -> Table:
    """Return a table of each setting in both tools, both with plain rounding."""
    made = []
    for row in rows:
        if not (row.theirs or row.peer):
            continue
        cells = [f"{file.bytes:,} / {file.sqnr_db:.2f} / {file.latency:.2f}" if file else "–" for file in _pair(row)]
        made.append((row.case, row.setting, *cells, row.falls_short or "–", row.peer))
    columns = ("model", "setting", "tfq_fine equal", "litert-quantizer 0.11", "falls short in", "litert-quantizer")
    notes = (
        "Bytes / SQNR in dB / latency to float. Equal: round to nearest, no bias correction, the same operators.",
        f"Falls short: SQNR by more than {WORSE_DB} dB, size by more than 1 %.",
    )
    return Table("Equal settings", columns, tuple(made), notes)


def _pair(row: Row) -> tuple[File | None, File | None]:
    return row.equal, row.theirs


def _cells(file: File | None) -> tuple[str, ...]:
    if file is None:
        return ("",) * 5
    right = "" if file.top1 is None else f"{100 * file.top1:.1f}"
    assert file.latency is not None
    return f"{file.bytes:,}", right, f"{100 * file.agreement:.1f}", f"{file.sqnr_db:.1f}", f"{file.latency:.2f}"


def _arguments() -> Namespace:
    arguments = parser(__doc__, MEASURED, CASES)
    arguments.add_argument(
        "--settings",
        type=lambda text: text.split(","),
        default=["*"],
        metavar="GLOB,...",
        help=f"which ones, such as {next(iter(SETTINGS))} or *-mixed; all by default",
    )
    arguments.add_argument("--test", type=int, metavar="N", help=f"test samples; {TEST}, else {FEW} by default")
    arguments.add_argument("--figure", metavar="FILE", help="draw error against size there (.svg, .png)")
    return arguments.parse_args()


def main() -> None:
    """Measure, print, save, draw."""
    arguments = _arguments()
    with work_folder(arguments.work) as work:
        rows = [
            row for case in arguments.cases for row in measure(case, matching(arguments.settings), work, arguments.test)
        ]
        floats = {case: prepared(case, work).tflite.stat().st_size for case in arguments.cases}
    tables = [ours_table(rows), peer_table(rows)]
    for made in tables:
        made.show()
    numbers = {"float_bytes": floats, "rows": [asdict(row) | {"falls_short": row.falls_short} for row in rows]}
    if arguments.output:
        save(arguments.output, tables, numbers)
    if arguments.figure:
        draw(numbers, arguments.figure)


if __name__ == "__main__":
    main()
