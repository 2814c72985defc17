"""One run of one tool, in a process of its own: `python -m benchmarks.tool_run TOOL FOLDER OUTPUT [SAMPLES]`.

The library is imported, and the calibration samples are in memory, before the clock starts. OUTPUT gets the file,
OUTPUT.json the figures.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks import child, equal_settings_peer
from benchmarks.float_files import Files
from benchmarks.granularity_peer import SETTINGS
from benchmarks.memory import peak_while_running
from benchmarks.tools import FITTED, TOOLS

ERROR_TEXT = 600  # characters of a failed tool's last words that are kept


class ToolFailed(RuntimeError):  # noqa: N818 - what happened, not whose fault
    """A tool raised an error, or its process died."""


@dataclass(frozen=True)
class ToolRun:
    """The time and memory of one run."""

    seconds: float  # float file on disk -> quantized file on disk
    cpu_s: float  # CPU seconds of the process and its children, all threads
    calibration_s: float | None
    self_peak: int  # ru_maxrss of the process, bytes
    children_peak: int  # ru_maxrss of its largest child, bytes; at its start a child inherits its parent's
    tree_peak: int = 0  # sum over the process and its children, bytes; see `peak_while_running`


def run_tool(name: str, files: Files, output: Path, samples: int = 100) -> ToolRun:
    """Run a tool in a process of its own; `output` gets the file.

    Raises:
        ToolFailed: the tool failed; the message ends with its last output.
    """
    command = child.command("tool_run", name, files.folder, output, samples)
    with output.with_suffix(".log").open("w+b") as log:
        process = subprocess.Popen(command, env=child.environment(), stdout=log, stderr=subprocess.STDOUT)
        peak = peak_while_running(process)
        if process.returncode:
            log.seek(0)
            said = log.read().decode(errors="replace").strip()[-ERROR_TEXT:]
            raise ToolFailed(f"{name} on {files.folder.name}: exit code {process.returncode}\n{said}")
    return replace(ToolRun(**json.loads(_figures(output).read_text())), tree_peak=peak)


def main(name: str, folder: str, output: str, samples: str) -> None:
    """Run a tool in this process."""
    files, place = Files(Path(folder)), Path(output)
    data = files.calibration(int(samples))
    work = (TOOLS | FITTED | SETTINGS | equal_settings_peer.TOOLS)[name].load()
    cpu, start = _cpu_seconds(), time.perf_counter()
    made = work(files, data)
    place.write_bytes(made.content)
    seconds, cpu = time.perf_counter() - start, _cpu_seconds() - cpu
    peaks = [1024 * resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    _figures(place).write_text(json.dumps(asdict(ToolRun(seconds, cpu, made.calibration_s, *peaks))))


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _figures(output: Path) -> Path:
    return output.with_suffix(".json")


if __name__ == "__main__":
    main(*sys.argv[1:])
