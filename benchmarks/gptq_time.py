"""Time of GPTQ, calibration included, against litert-quantizer's: `python -m benchmarks.gptq_time`.

Both tools make weight-only files of 4 bits per channel from the same 100 samples, in turns, each run in a process of
its own that has imported its library before the clock starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.arguments import parser, work_folder
from benchmarks.equal_settings_peer import TOOLS as PEER_TOOLS
from benchmarks.float_files import prepared
from benchmarks.tables import Table, present, progress
from benchmarks.tool_run import ToolRun, run_tool
from benchmarks.tools import FITTED
from benchmarks.zoo import CASES

MEASURED = ("encoder",)
PEERS = ("litert-w4-gptq-as_is", "litert-w4-gptq")
OURS = "tfq_fine_gptq"
TOOLS = {OURS: FITTED[OURS].title} | {peer: PEER_TOOLS[peer].title for peer in PEERS}
SAMPLES = 100


@dataclass(frozen=True)
class Row:
    """One run of each tool on one case, one after the other."""

    case: str
    runs: dict[str, ToolRun]  # by tool

    def ratio(self, tool: str, figure: str) -> float:
        """Return how many times as much of a figure of `ToolRun` a tool takes as ours."""
        return float(getattr(self.runs[tool], figure)) / float(getattr(self.runs[OURS], figure))


def measure(case: str, rounds: int, work: Path) -> Iterator[Row]:
    """Yield a row for every round."""
    files = prepared(case, work)
    for _ in range(rounds):
        yield Row(case, {tool: run_tool(tool, files, work / f"{case}-{tool}.tflite", SAMPLES) for tool in TOOLS})


def table(rows: Sequence[Row]) -> Table:
    """Return one line per case and tool: medians over the rounds."""
    lines = []
    for case in dict.fromkeys(row.case for row in rows):
        mine = [row for row in rows if row.case == case]
        for tool, title in TOOLS.items():
            seconds = median(row.runs[tool].seconds for row in mine)
            cpu, peak = (median(getattr(row.runs[tool], name) for row in mine) for name in ("cpu_s", "tree_peak"))
            ratios = [median(row.ratio(tool, figure) for row in mine) for figure in ("seconds", "cpu_s")]
            told = [f"{number:.1f}" for number in (seconds, cpu, *ratios)]
            lines.append((case, title, *told, f"{peak / 2**20:.0f}"))
    columns = ("model", "tool", "s", "CPU s", "times ours", "CPU, times ours", "MiB")
    notes = (f"{SAMPLES} samples; float file on disk to quantized file on disk; medians, ratios within each round.",)
    return Table("GPTQ", columns, tuple(lines), notes)


def main() -> None:
    """Measure, print, save."""
    arguments = parser(__doc__, MEASURED, CASES)
    arguments.add_argument("--rounds", type=int, default=3, help="runs of each tool")
    options = arguments.parse_args()
    rows: list[Row] = []
    with work_folder(options.work) as work:
        for case in options.cases:
            for row in measure(case, options.rounds, work):
                progress(f"{row}")
                rows.append(row)
    present(table(rows), rows, options.output)


if __name__ == "__main__":
    main()
