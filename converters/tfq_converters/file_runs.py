"""Runs of whole files, one after the other, in one process that is not the user's: what a file really computes.

`child_runs` runs one finished file on several sets of kernels, for the run check. This is for the many candidates that
choices are made between; they run on the default kernels, as on a phone.
"""

import selectors
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.array_file import ArrayFile, ArrayWriter
from tfq_converters.child_process import python_command, python_environment
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_converters.temporary import temporary_folder

LIMIT = 600.0  # seconds that one file may take for all of its samples
Outputs = list[list[np.ndarray]]  # of every sample, of every output


class FileRuns:
    """A process that runs files; it is started at the first one, and again when a file ended it."""

    def __init__(self, here: Path):
        self.folder, self._count = here, 0
        self._child: subprocess.Popen[str] | None = None

    def run(
        self,
        graph: Graph,
        samples: Sequence[Sequence[np.ndarray]],
        outputs: Sequence[int] | None = None,
        limit: float = LIMIT,
    ) -> Outputs:
        """What the file of `graph` computes.

        Args:
            graph: of the file.
            samples: inputs of its main subgraph, in the types of the file.
            outputs: tensors of the main subgraph to report instead of its outputs.
            limit: seconds, after which the process is ended.

        Raises:
            TfqError: the runtime refuses the file or fails on it, the process died, or the time is over.
        """
        name = str(self._count)
        self._count += 1
        if outputs is not None:
            main = replace(graph.main, outputs=tuple(outputs))
            graph = replace(graph, subgraphs=(main, *graph.subgraphs[1:]), signatures=())
        flatbuffer.save(graph, self.folder / f"{name}.tflite", behind=True)
        given = ArrayWriter(self.folder / f"{name}.inputs")
        for n, sample in enumerate(samples):
            for k, array in enumerate(sample):
                given.add(f"{n}_{k}", array)
        given.close()
        try:
            self._ask(name, limit)
            error = self.folder / f"{name}.error"
            if error.exists():
                raise TfqError(error.read_text())
            found = ArrayFile(self.folder / f"{name}.outputs")
            return [[found[f"{n}_{k}"] for k in range(len(graph.main.outputs))] for n in range(len(samples))]
        finally:
            for kind in ("tflite", "inputs", "outputs", "error"):
                (self.folder / f"{name}.{kind}").unlink(missing_ok=True)

    def _ask(self, name: str, limit: float) -> None:
        child = self._ready()
        assert child.stdin is not None and child.stdout is not None
        with suppress(BrokenPipeError):  # it died on its own; the answer is empty then
            child.stdin.write(f"{name}\n")
            child.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            if not selector.select(limit):
                self.end()
                raise TfqError(f"running the file took more than {limit:.0f} seconds")
        if child.stdout.readline().strip() != name:
            code = child.wait()
            self.end()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise TfqError(f"running the file ended the process ({how})")

    def _ready(self) -> "subprocess.Popen[str]":
        if self._child is None:
            self._child = subprocess.Popen(
                python_command("tfq_converters.file_child", str(self.folder), site=False),
                env=python_environment(OPENBLAS_NUM_THREADS="1"),  # it uses none
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        return self._child

    def end(self) -> None:
        """End the process, if there is one."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()


@contextmanager
def file_runs() -> Iterator[FileRuns]:
    """A `FileRuns` whose process and temporary folder last as long as the block."""
    with temporary_folder() as folder:
        runs = FileRuns(Path(folder))
        try:
            yield runs
        finally:
            runs.end()
