"""Runs of a file in processes of their own: a bad file may take the process down, and must not take the user's."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.files import ArrayFile, ArrayWriter, write_file
from tfq_converters.graph import AnyArray, Graph
from tfq_converters.graph_edit import Part, cut
from tfq_converters.runtime.child_process import in_folder, pipe, started
from tfq_converters.runtime.patience import Clock, limit_of
from tfq_converters.runtime.runner import Kernels

POLL = 0.002  # seconds between two looks for a result

# read from disk at each access; `output_N_K`: output K of sample N; `tensor_N_T`: tensor T of the main subgraph
Arrays = Mapping[str, AnyArray]


def waiting(timeout: float | None = None) -> AbstractContextManager["Runs"]:
    """Start a process that will run a file; `Runs.give` hands it over.

    The process loads what it needs meanwhile, so that it pays to start it before there is anything to run.

    Args:
        timeout: seconds that a run of the file may take; None to scale it with the float model's time.
    """
    return in_folder(Runs, timeout)


def _save_parts(graph: Graph, parts: Sequence[Part], here: Path) -> None:
    """Save each part as a file, and where they meet."""
    borders = ArrayWriter(here / "parts")
    for side, tensors in (("inputs", graph.main.inputs), ("outputs", graph.main.outputs)):
        borders.add(side, np.array(tensors, np.int64))
    for k, part in enumerate(parts):
        flatbuffer.save(part.graph, here / f"part_{k}.tflite", constants_last=True)
        borders.add(f"inputs_{k}", np.array(part.inputs, np.int64))
        borders.add(f"outputs_{k}", np.array(part.outputs, np.int64))
    borders.close()


def _save_probe(graph: Graph, content: bytes | None, wanted: tuple[int, ...], path: Path) -> None:
    """Save the file with the requested tensors as its outputs."""
    if content is not None:
        write_file(path, flatbuffer.with_outputs(content, wanted))
        return
    main = replace(graph.main, outputs=wanted)
    flatbuffer.save(replace(graph, subgraphs=(main, *graph.subgraphs[1:]), signatures=()), path, constants_last=True)


class Runs:
    """The processes that run the file of one folder."""

    def __init__(self, here: Path, timeout: float | None = None):
        self._here, self.timeout = here, timeout
        self.float_seconds = 0.0  # what the float model takes for the samples that are run
        self._ready = self._started()
        self._children: dict[str, subprocess.Popen[bytes]] = {}  # by kernels; several may share one
        self._kept = ArrayWriter(here / "kept")

    def _started(self) -> subprocess.Popen[bytes]:
        """Return a process that waits to be told its kernels."""
        return started("tfq_converters.runtime.run_child", self._here, subprocess.DEVNULL)

    def give(
        self,
        graph: Graph,
        content: bytes | None,
        wanted: Sequence[int],
        samples: Sequence[Sequence[AnyArray]],
        kernels: Sequence[Kernels],
    ) -> int:
        """Hand the file over, to be run on `kernels`; returns in how many parts it is run.

        Args:
            graph: the graph of the file.
            content: the bytes of the file; made from `graph` when None.
            wanted: tensors of the main subgraph to report.
            samples: inputs in the types of the file.
            kernels: which ones.
        """
        write_file(self._here / "file.tflite", flatbuffer.pieces(graph) if content is None else [content])
        parts = cut(graph, wanted)
        if parts:
            _save_parts(graph, parts, self._here)
        else:
            _save_probe(graph, content, tuple(wanted), self._here / "probe.tflite")
        writer = ArrayWriter(self._here / "inputs")
        writer.add("wanted", np.array(wanted, np.int64))
        for n, sample in enumerate(samples):
            for k, array in enumerate(sample):
                writer.add(f"{n}_{k}", array)
        writer.close()
        self._begin(self._ready, kernels)
        return max(len(parts), 1)

    def again(self, kernels: Kernels) -> None:
        """Run the file that was handed over on other kernels too."""
        self._begin(self._started(), [kernels])

    def _begin(self, child: subprocess.Popen[bytes], kernels: Sequence[Kernels]) -> None:
        self._children |= dict.fromkeys(kernels, child)
        requests = pipe(child.stdin)
        with suppress(BrokenPipeError):  # it died on its own; `result` says so
            requests.write(" ".join(kernels).encode() + b"\n")
            requests.close()

    def keep(self, name: str, value: AnyArray) -> None:
        """Put an array of any type and shape aside, on disk."""
        self._kept.add(name, value)

    def kept(self) -> Arrays:
        """Return all that `keep` put aside; nothing more can be kept."""
        self._kept.close()
        return ArrayFile(self._here / "kept")

    def result(self, kernels: Kernels) -> Arrays:
        """Wait for the run on `kernels`; ask first for the run that ends first.

        Raises:
            TfqError: the runtime refused the file, died on it, or did not end.
        """
        result, error = self._here / kernels, self._here / f"{kernels}.error"
        child = self._children[kernels]
        clock, limit = Clock(), limit_of(self.float_seconds, self.timeout)
        while not self.is_done(kernels):
            time.sleep(POLL)
            if clock.look() > limit:
                child.kill()
                raise TfqError(
                    f"the file is not handed over: running it on the {kernels} kernels did not end within {limit:.4g} "
                    f"seconds, and was stopped (the float model took {self.float_seconds:.3g}); if it is only slow, "
                    "raise the limit: timeout=SECONDS"
                )
        if result.exists():
            return ArrayFile(result)
        if error.exists():
            last = error.read_text().strip().splitlines()[-1]
            raise TfqError(f"the file is not handed over: {last}")
        if list(self._children.values()).count(child) > 1:  # which kernels did it?
            self.again(kernels)
            return self.result(kernels)
        how = f"signal {-child.returncode}" if child.returncode < 0 else f"exit code {child.returncode}"
        errors = (self._here / "errors").read_text(errors="replace")
        raise TfqError(
            f"the file is not handed over: running it on the {kernels} kernels ended the process ({how})\n"
            f"{errors[-800:]}"
        )

    def is_done(self, kernels: Kernels) -> bool:
        """Return whether `result` need not wait."""
        named = (self._here / kernels, self._here / f"{kernels}.error")
        return any(path.exists() for path in named) or self._children[kernels].poll() is not None

    def refused(self, kernels: Kernels) -> bool:
        """Return whether the runtime refused the file, in contrast to dying on it."""
        return (self._here / f"{kernels}.error").exists()

    def end(self) -> None:
        """End all processes."""
        self._kept.close()
        for child in {self._ready, *self._children.values()}:
            child.kill()
            child.wait()
            if child.stdin is not None:
                with suppress(BrokenPipeError):
                    child.stdin.close()
