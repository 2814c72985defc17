"""Tries files on one runtime variant, in a process of its own, because some take the process down.

`python -m tfq_converters.probe.child FOLDER VARIANT NUMBER...` reads `NUMBER.tflite`, `NUMBER.npz` and the float file
to compare times with. For each it prints one line when it begins and one line of JSON when it ends, and saves what two
runs in a row gave as `VARIANT_NUMBER.npz`.
"""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time_ns
from typing import IO, Any

import numpy as np

from tfq_converters.graph import AnyArray
from tfq_converters.probe.runtimes import SECONDS, Opened, opener

Open = Callable[[bytes], Opened]

ROUNDS = 5
LEAST_NS = 1_000_000  # in one timed batch
MOST_INVOCATIONS = 1000  # in one timed batch


def main(folder: str, variant: str, *numbers: str) -> int:
    """Try the files; returns the exit code."""
    here = Path(folder)
    jobs = json.loads((here / "jobs.json").read_text())
    open_file = opener(variant)
    reports = os.fdopen(os.dup(1), "w", buffering=1)
    with tempfile.TemporaryFile() as said:  # runtimes give their reasons on the standard streams
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        for number in numbers:
            reports.write(f"{number}\n")
            said.truncate(0)
            said.seek(0)
            if hasattr(signal, "alarm"):
                signal.alarm(SECONDS)
            outcome = _attempt(here, variant, number, jobs[number], open_file, said)
            reports.write(json.dumps(outcome) + "\n")
    return 0


def _attempt(
    here: Path, variant: str, number: str, job: dict[str, Any], open_file: Open, said: IO[bytes]
) -> dict[str, Any]:
    content, inputs = _file(here, number)
    try:
        opened = open_file(content)
        results = [_once(opened, inputs) for _ in range(2)]
    except (RuntimeError, ValueError) as error:
        said.flush()
        said.seek(0)
        return {"refuses": str(error), "said": said.read().decode(errors="replace")}
    np.savez(here / f"{variant}_{number}.npz", *results)
    opened.feed(inputs)
    ratio = None if job["twin"] is None else _ratio(opened, *_file(here, job["twin"]), open_file)
    return {"delegated": opened.delegated(job["result"]), "ratio": ratio}


def _file(here: Path, number: str) -> tuple[bytes, list[AnyArray]]:
    with np.load(here / f"{number}.npz", allow_pickle=False) as content:
        inputs = [content[name] for name in content.files]
    return (here / f"{number}.tflite").read_bytes(), inputs


def _once(opened: Opened, inputs: list[AnyArray]) -> AnyArray:
    opened.feed(inputs)
    opened.invoke()
    return opened.output()


def _ratio(opened: Opened, content: bytes, inputs: list[AnyArray], open_file: Open) -> float | None:
    """Return the CPU time of one invocation relative to the float file, in turns; None when that is refused."""
    try:
        twin = open_file(content)
        _once(twin, inputs)
    except (RuntimeError, ValueError):
        return None
    both = (opened, twin)
    counts = [min(MOST_INVOCATIONS, 1 + int(LEAST_NS / _nanoseconds(one, 2))) for one in both]
    times: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for taken, one, count in zip(times, both, counts, strict=True):
            taken.append(_nanoseconds(one, count))
    return median(times[0]) / median(times[1])


def _nanoseconds(opened: Opened, count: int) -> float:
    start = process_time_ns()
    for _ in range(count):
        opened.invoke()
    return max(process_time_ns() - start, 1) / count


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
