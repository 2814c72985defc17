"""Files that are run in another process: a bad file may take the process down, and must not take the user's."""

import json
import os
import selectors
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from tfq_converters.errors import TfqError
from tfq_converters.files import write_file
from tfq_converters.graph import AnyArray
from tfq_converters.runtime.child_process import in_folder, pipe, started
from tfq_converters.runtime.mailbox import Mailbox
from tfq_converters.runtime.patience import Clock, limit_of
from tfq_converters.runtime.runner import Kernels

LOOK = 0.5  # seconds between two looks at a process that does not answer
LAST_WORDS = 800  # characters
START = 20.0  # seconds that a process may take to start, whatever the user said of runs
RUNS_TIMED = 5  # runs of each file: those that are not counted, and the fewest that are


def apart(timeout: float | None = None) -> AbstractContextManager["Apart"]:
    """Start a process that runs files; it loads what it needs meanwhile.

    Args:
        timeout: seconds that one run of a file may take; None to scale it with the float model's time.
    """
    return in_folder(Apart, timeout)


class Apart:
    """A process that runs files."""

    def __init__(self, folder: Path, timeout: float | None):
        self._folder, self._timeout = folder, timeout
        self._asked, self._answered = Mailbox(folder / "asked"), Mailbox(folder / "answered")
        self._process = started("tfq_converters.runtime.apart_child", folder, subprocess.PIPE)
        self._number = 0
        self._said = b""

    def open(self, content: bytes | str, kernels: Kernels, threads: int, what: str) -> "ApartRunner":
        """Return a file, given by content or path, ready to run; `what` names it in errors.

        Raises:
            TfqError: the runtime refuses it, dies of it, or does not end.
        """
        self._number += 1
        own = None if isinstance(content, str) else self._folder / f"{self._number}.tflite"
        path = os.path.abspath(content) if isinstance(content, str) else str(own)
        if own is not None:
            write_file(own, [content])  # type: ignore[list-item]
        runner = ApartRunner(self, self._number, what, own, {"path": path, "kernels": kernels, "threads": threads})
        runner.reopen()
        return runner

    @property
    def is_alive(self) -> bool:
        """Whether the process can still be asked."""
        return self._process.poll() is None

    def limit(self, float_seconds: float) -> float:
        """Return the seconds that one run of a file may take."""
        return limit_of(float_seconds, self._timeout)

    def time(
        self, runners: Sequence["ApartRunner"], inputs: Sequence[Sequence[AnyArray]], seconds: float
    ) -> tuple[float, float, int]:
        """Return the times of two files, as `apart_child.timed` measures them."""
        asked = self.put([array for sample in inputs for array in sample])
        limit = 2 * seconds + RUNS_TIMED * sum(runner.limit for runner in runners)
        what = " and ".join(runner.what for runner in runners)
        numbers, counts = [runner.number for runner in runners], [len(sample) for sample in inputs]
        before, after, repeats = self.ask(
            what, limit, "time", numbers=numbers, inputs=asked, counts=counts, seconds=seconds
        )
        return before, after, repeats

    def put(self, arrays: Sequence[AnyArray]) -> list[Any]:
        """Store arrays for the next request."""
        return self._asked.put(arrays)

    def take(self, described: Sequence[Any]) -> list[AnyArray]:
        """Return the arrays of the last answer."""
        return self._answered.take(described)

    def ask(self, what: str, limit: float, name: str, **arguments: Any) -> Any:
        """Make a request and wait for the answer.

        Args:
            what: the file, for errors.
            limit: seconds that it may take.
            name: the name of the request (`apart_child.Server`).
            arguments: the arguments of the request.

        Raises:
            TfqError: the runtime refuses or fails, the process died, or it did not answer in time.
        """
        requests = pipe(self._process.stdin)
        with suppress(BrokenPipeError):  # it died; the answer says so
            requests.write(json.dumps([name, arguments]).encode() + b"\n")
            requests.flush()
        answer = json.loads(self._line(what, limit))
        if "refused" in answer:
            raise TfqError(f"{what}: {answer['refused']}")
        return answer["done"]

    def _line(self, what: str, limit: float) -> bytes:
        answers = pipe(self._process.stdout)
        clock = Clock()
        with selectors.DefaultSelector() as selector:
            selector.register(answers, selectors.EVENT_READ)
            while b"\n" not in self._said:
                if not selector.select(min(LOOK, limit)):
                    if clock.look() >= limit:
                        self._process.kill()
                        self._process.wait()
                        raise TfqError(
                            f"{what}: running it did not end within {limit:.4g} seconds, and was stopped; if the file "
                            "is only slow, raise the limit: timeout=SECONDS"
                        )
                    continue
                part = os.read(answers.fileno(), 2**16)
                if not part:
                    raise TfqError(f"{what}: {self._how_it_died()}")
                self._said += part
        line, _, self._said = self._said.partition(b"\n")
        return line

    def _how_it_died(self) -> str:
        code = self._process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        said = (self._folder / "errors").read_text(errors="replace")[-LAST_WORDS:]
        return f"running it ended the process ({how}); the file is damaged, or the runtime is\n{said}".rstrip()

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        self._asked.close()
        self._answered.close()


class ApartRunner:
    """A file of such a process; it has the methods of `runner.Runner` that the verification uses."""

    def __init__(self, process: Apart, number: int, what: str, own: Path | None, how: dict[str, Any]):
        self.process, self.number, self.what = process, number, what
        self.limit = process.limit(0.0)  # seconds that one run may take
        self._own, self._how = own, how  # the copy that was made for it, and how it is opened

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Feed `inputs` in input order, invoke, return the outputs in output order.

        Inputs may have any shapes that the file can take; outputs have those that the run gave them.
        """
        return self.run_all([inputs])[0]

    def run_all(self, inputs: Sequence[Sequence[AnyArray]], reset: bool = False) -> list[list[AnyArray]]:
        """Return the outputs of several runs in one request; with `reset`, no state passes between them."""
        each, count = len(inputs[0]), len(inputs)
        asked = self.process.put([array for request in inputs for array in request])
        request = {"number": self.number, "inputs": asked, "each": each, "reset": reset}
        outputs = self.process.take(self.process.ask(self.what, count * self.limit, "run", **request))
        size = len(outputs) // count
        return [outputs[start : start + size] for start in range(0, len(outputs), size)]

    def reset_variables(self) -> None:
        """Set the variables of the file to zero, where they begin."""
        self.process.ask(self.what, self.limit, "reset", number=self.number)

    def reopen(self) -> None:
        """Open the file anew; nothing is left of what it kept."""
        self.process.ask(self.what, max(self.limit, START), "open", number=self.number, **self._how)

    def close(self) -> None:
        """Let go of the file."""
        self.process.ask(self.what, self.limit, "close", number=self.number)
        if self._own is not None:
            self._own.unlink(missing_ok=True)
