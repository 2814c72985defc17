"""Runs one file on several sets of kernels in a process of its own, because a bad file may take the process down.

`python -m tfq_converters.run_child FOLDER KERNELS ...` reads `file.tflite`, `inputs` and, where the kernels hide their
intermediates (the delegate does), `probe.tflite`: the same file with every wanted tensor as an output. It writes a file
`KERNELS` for each, one after the other, and ends at the first that fails; `array_file` has the form of all.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfq_converters.array_file import ArrayFile, ArrayWriter
from tfq_converters.errors import TfqError
from tfq_converters.runtime import Kernels, Runner

REFUSED = 3  # exit code when the runtime refuses the file or fails, in contrast to a process that dies


def samples(found: Mapping[str, np.ndarray]) -> list[list[np.ndarray]]:
    """The inputs of every sample, from the arrays `sample_input`."""
    inputs: dict[int, dict[int, np.ndarray]] = {}
    for name in found:
        sample, slot = map(int, name.split("_"))
        inputs.setdefault(sample, {})[slot] = found[name]
    return [[inputs[n][k] for k in sorted(inputs[n])] for n in sorted(inputs)]


def main(folder: str, *kernels: Kernels) -> int:
    """Run the file of `folder` and save what it computes; returns the exit code."""
    here = Path(folder)
    given = ArrayFile(here / "inputs")
    wanted = given["wanted"].tolist()
    inputs = samples({name: given[name] for name in given if name != "wanted"})
    for kind in kernels:
        results = ArrayWriter(here / f"{kind}.part")
        try:
            _run(here, kind, inputs, wanted, results)
        except TfqError as error:
            print(error, file=sys.stderr)
            return REFUSED
        results.close()
        (here / f"{kind}.part").rename(here / kind)
    return 0


def _run(here: Path, kernels: Kernels, inputs: list[list[np.ndarray]], wanted: list[int], results: ArrayWriter) -> None:
    runner = Runner(str(here / "file.tflite"), kernels, keep_tensors=kernels != "default")
    hidden = []
    for n, sample in enumerate(inputs):
        runner.reset_variables()
        for k, array in enumerate(runner.run(sample)):
            results.add(f"output_{n}_{k}", array)
        values = None if kernels == "default" else _kept(runner, wanted)
        if values is None:
            hidden.append(n)
        else:
            _save(results, n, wanted, values)
    del runner  # two interpreters at a time would hold the weights twice
    if hidden:
        probe = Runner(str(here / "probe.tflite"), kernels)
        for n in hidden:
            probe.reset_variables()
            _save(results, n, wanted, probe.run(inputs[n]))


def _save(results: ArrayWriter, n: int, wanted: list[int], values: list[np.ndarray]) -> None:
    for t, value in zip(wanted, values, strict=True):
        results.add(f"tensor_{n}_{t}", value)


def _kept(runner: Runner, wanted: list[int]) -> list[np.ndarray] | None:
    """The intermediates that the interpreter kept; None when it let go of some (around control flow it does)."""
    try:
        return [runner.tensor(t) for t in wanted]
    except ValueError:
        return None


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], *sys.argv[2:]))  # type: ignore[arg-type]
