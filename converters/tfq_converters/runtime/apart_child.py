"""Runs files for another process: `python -m tfq_converters.runtime.apart_child FOLDER`.

It reads one line of JSON for each request from stdin and answers with one on stdout: {"done": ...}, or {"refused": ...}
where the runtime refuses or fails. Arrays go through the files `asked` and `answered` of the folder (`mailbox`).
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfq_converters.errors import TfqError
from tfq_converters.graph import AnyArray
from tfq_converters.runtime.mailbox import Mailbox
from tfq_converters.runtime.runner import Runner

WARM_UP = 2  # runs of each that are not counted
FEWEST, MOST = 3, 1000  # counted runs of each


class Server:
    """The files that are open, and what is done with them."""

    def __init__(self, folder: Path):
        self._asked, self._answered = Mailbox(folder / "asked"), Mailbox(folder / "answered")
        self._runners: dict[int, Runner] = {}

    def open(self, number: int, path: str, kernels: Any, threads: int) -> None:
        """Open a file under a number."""
        self._runners[number] = Runner(path, kernels, threads)

    def close(self, number: int) -> None:
        """Close the file of a number, if it is open."""
        self._runners.pop(number, None)

    def run(self, number: int, inputs: list[Any], each: int, reset: bool) -> list[Any]:
        """Return the outputs of several runs, one after the other; each takes so many of the inputs."""
        arrays, runner = self._asked.take(inputs), self._runners[number]
        outputs: list[AnyArray] = []
        for start in range(0, max(len(arrays), 1), max(each, 1)):
            outputs += runner.run(arrays[start : start + each])
            if reset:
                runner.reset_variables()
        return self._answered.put(outputs)

    def reset(self, number: int) -> None:
        """Set the variables of a file back to their start."""
        self._runners[number].reset_variables()

    def time(self, numbers: list[int], inputs: list[Any], counts: list[int], seconds: float) -> list[Any]:
        """Return the median ms of two files, and of how many runs."""
        arrays = self._asked.take(inputs)
        fed = arrays[: counts[0]], arrays[counts[0] :]
        return list(timed([self._runners[number] for number in numbers], fed, seconds))


def timed(runners: Sequence[Runner], inputs: Sequence[Sequence[AnyArray]], seconds: float) -> tuple[float, float, int]:
    """Return the median ms of one invocation of each, in alternation (first of each pair too), and how many."""
    sides = list(zip(runners, inputs, strict=True))
    start = time.perf_counter()
    for runner, arrays in sides * WARM_UP:
        runner.invoke(arrays)
    times: tuple[list[float], list[float]] = ([], [])
    while len(times[0]) < FEWEST or (len(times[0]) < MOST and time.perf_counter() - start < seconds):
        for which in (0, 1) if len(times[0]) % 2 else (1, 0):
            runner, arrays = sides[which]
            before = time.perf_counter()
            runner.invoke(arrays)
            times[which].append(1e3 * (time.perf_counter() - before))
    return statistics.median(times[0]), statistics.median(times[1]), len(times[0])


def main(folder: str) -> int:
    """Answer until stdin ends; returns the exit code."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # runtimes print
    server = Server(Path(folder))
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            answer = {"done": getattr(server, name)(**arguments)}
        except TfqError as error:
            answer = {"refused": str(error)}
        answers.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
