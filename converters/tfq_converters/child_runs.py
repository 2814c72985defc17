"""Runs of a file in processes of their own: a bad file may take the process down, and must not take the user's."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.array_file import ArrayFile, ArrayWriter
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_converters.run_child import REFUSED
from tfq_converters.runtime import Kernels

# views of a file; `output_N_K`: output K of sample N; `tensor_N_T`: tensor T of the main subgraph
Arrays = Mapping[str, np.ndarray]


@contextmanager
def started(
    graph: Graph,
    content: bytes | None,
    wanted: Sequence[int],
    samples: Sequence[Sequence[np.ndarray]],
    kernels: Sequence[Kernels] = ("default", "reference"),
) -> Iterator["Runs"]:
    """Start to run the file of `graph` on several kernels, in a process of its own.

    Args:
        graph: of the file.
        content: the bytes of the file; made from `graph` when None.
        wanted: tensors of the main subgraph to report.
        samples: inputs in the types of the file.
        kernels: which ones.
    """
    with tempfile.TemporaryDirectory(prefix="tfq_fine_") as folder:
        here = Path(folder)
        flatbuffer.save_pieces(
            iter([content]) if content is not None else flatbuffer.pieces(graph), here / "file.tflite"
        )
        _save_probe(graph, content, tuple(wanted), here / "probe.tflite")
        given = ArrayWriter(here / "inputs")
        given.add("wanted", np.array(wanted, np.int64))
        for n, sample in enumerate(samples):
            for k, array in enumerate(sample):
                given.add(f"{n}_{k}", array)
        given.close()
        runs = Runs(here)
        try:
            runs.start(*kernels)
            yield runs
        finally:
            runs.end()


def _save_probe(graph: Graph, content: bytes | None, wanted: tuple[int, ...], path: Path) -> None:
    """The file with the wanted tensors as its outputs."""
    if content is not None:
        flatbuffer.save_pieces(flatbuffer.with_outputs(content, wanted), path)
        return
    main = replace(graph.main, outputs=wanted)
    flatbuffer.save(replace(graph, subgraphs=(main, *graph.subgraphs[1:]), signatures=()), path, behind=True)


class Runs:
    """The processes that run the file of one folder."""

    def __init__(self, here: Path):
        self._here = here
        self._children: dict[str, subprocess.Popen] = {}  # by kernels; several may share one
        self._errors: dict[subprocess.Popen, str] = {}
        self._kept = ArrayWriter(here / "kept")

    def start(self, *kernels: Kernels) -> None:
        """Run the file on `kernels`, one after the other, in the background."""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-m", "tfq_converters.run_child", str(self._here), *kernels]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        child = subprocess.Popen(command, env=environment, **pipes)  # type: ignore[call-overload]
        self._children |= dict.fromkeys(kernels, child)

    def keep(self, name: str, value: np.ndarray) -> None:
        """Put an array aside, on disk."""
        self._kept.add(name, value)

    def kept(self) -> Arrays:
        """All that `keep` put aside; nothing more can be kept."""
        self._kept.close()
        return ArrayFile(self._here / "kept")

    def result(self, kernels: Kernels) -> Arrays:
        """Wait for the run on `kernels`; ask for what was started first, first.

        Raises:
            TfqError: the runtime refused the file, or died on it.
        """
        child = self._children[kernels]
        if child not in self._errors:
            self._errors[child] = child.communicate()[1]
        if (self._here / kernels).exists():
            return ArrayFile(self._here / kernels)
        errors = self._errors[child]
        if child.returncode == REFUSED:
            raise TfqError(f"the file is not handed over: {errors.strip().splitlines()[-1]}")
        how = f"signal {-child.returncode}" if child.returncode < 0 else f"exit code {child.returncode}"
        raise TfqError(
            f"the file is not handed over: running it on the {kernels} kernels ended the process ({how})\n"
            f"{errors[-800:]}"
        )

    def refused(self, kernels: Kernels) -> bool:
        """Whether the runtime refused the file, in contrast to dying on it."""
        return self._children[kernels].returncode == REFUSED

    def end(self) -> None:
        """End all processes."""
        self._kept.close()
        for child in set(self._children.values()):
            child.kill()
            child.wait()
            if child.stderr is not None:
                child.stderr.close()
