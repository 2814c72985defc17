"""Runs of whole files, one after the other, in a process that is not the user's: what a file really computes.

`child_runs` runs one finished file on several sets of kernels, for the run check. This is for the many candidates that
choices are made between; they run on the default kernels, as on a phone.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import AnyArray, Graph
from tfq_converters.runtime.apart_process import Apart, apart
from tfq_converters.runtime.child_process import in_folder
from tfq_converters.runtime.patience import float_seconds

Outputs = list[list[AnyArray]]  # by sample, then by output


class FileRuns:
    """A process that runs files; it is started at the first one, and again when a file ended it.

    Args:
        folder: a temporary one.
        timeout: seconds that one run of a file may take; None to scale it with the float model's time.
    """

    def __init__(self, folder: Path, timeout: float | None = None):
        self.folder, self._timeout = folder, timeout
        self._process: Apart | None = None
        self._stack = ExitStack()
        self._count = 0

    def run(self, graph: Graph, samples: Sequence[Sequence[AnyArray]], outputs: Sequence[int] | None = None) -> Outputs:
        """Run the file of `graph`.

        Args:
            graph: the graph of the file.
            samples: inputs of its main subgraph, in the types of the file.
            outputs: tensors of the main subgraph to report instead of its outputs.

        Raises:
            TfqError: the runtime refuses the file or fails on it, the process died, or the time is over.
        """
        if outputs is not None:
            main = replace(graph.main, outputs=tuple(outputs))
            graph = replace(graph, subgraphs=(main, *graph.subgraphs[1:]), signatures=())
        if not samples or not graph.main.outputs:
            return [[] for _ in samples]
        self._count += 1
        path = self.folder / f"{self._count}.tflite"
        flatbuffer.save(graph, path, constants_last=True)
        process = self._ready()
        try:
            runner = process.open(str(path), "default", 1, "the file")
            try:
                runner.limit = process.limit(float_seconds(graph, 1))
                return runner.run_all(samples, reset=True)
            finally:
                if process.is_alive:
                    runner.close()
        except TfqError:
            if not process.is_alive:
                self.end()
            raise
        finally:
            path.unlink(missing_ok=True)

    def _ready(self) -> Apart:
        if self._process is None:
            self._process = self._stack.enter_context(apart(self._timeout))
        return self._process

    def end(self) -> None:
        """End the process, if there is one."""
        self._process = None
        self._stack.close()


def file_runs(timeout: float | None = None) -> AbstractContextManager[FileRuns]:
    """Return a `FileRuns` whose process and temporary folder last as long as the block."""
    return in_folder(FileRuns, timeout)
