"""Runs one file on one set of kernels in a process of its own, because a bad file may take the process down.

`python -m tfq_converters.run_child FOLDER KERNELS` reads `file.tflite`, `inputs` and, where the kernels hide their
intermediates (the delegate does), `probe.tflite`: the same file with every wanted tensor as an output. It writes
`KERNELS`; `array_file` has the form of both.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfq_converters.array_file import ArrayFile, ArrayWriter
from tfq_converters.errors import TfqError
from tfq_converters.runtime import Runner

REFUSED = 3  # exit code when the runtime refuses the file or fails, in contrast to a process that dies


def samples(found: Mapping[str, np.ndarray]) -> list[list[np.ndarray]]:
    """The inputs of every sample, from the arrays `sample_input`."""
    inputs: dict[int, dict[int, np.ndarray]] = {}
    for name in found:
        sample, slot = map(int, name.split("_"))
        inputs.setdefault(sample, {})[slot] = found[name]
    return [[inputs[n][k] for k in sorted(inputs[n])] for n in sorted(inputs)]


def main(folder: str, kernels: str) -> int:
    """Run the file of `folder` and save what it computes; returns the exit code."""
    here = Path(folder)
    given = ArrayFile(here / "inputs")
    wanted = given["wanted"].tolist()
    results = ArrayWriter(here / kernels)
    try:
        runner = Runner(str(here / "file.tflite"), kernels, keep_tensors=kernels != "default")  # type: ignore[arg-type]
        probe: Runner | None = None
        for n, sample in enumerate(samples({name: given[name] for name in given if name != "wanted"})):
            runner.reset_variables()
            for k, array in enumerate(runner.run(sample)):
                results.add(f"output_{n}_{k}", array)
            values = None if kernels == "default" else _kept(runner, wanted)
            if values is None:
                probe = probe or Runner(str(here / "probe.tflite"), kernels)  # type: ignore[arg-type]
                probe.reset_variables()
                values = probe.run(sample)
            for t, value in zip(wanted, values, strict=True):
                results.add(f"tensor_{n}_{t}", value)
    except TfqError as error:
        print(error, file=sys.stderr)
        return REFUSED
    results.close()
    return 0


def _kept(runner: Runner, wanted: list[int]) -> list[np.ndarray] | None:
    """The intermediates that the interpreter kept; None when it let go of some (around control flow it does)."""
    try:
        return [runner.tensor(t) for t in wanted]
    except ValueError:
        return None


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
