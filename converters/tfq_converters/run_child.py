"""Runs one file on one set of kernels in a process of its own, because a bad file may take the process down.

`python -m tfq_converters.run_child FOLDER KERNELS` reads `file.tflite`, `inputs.npz` and, where the kernels hide their
intermediates (the delegate does), `probe.tflite`: the same file with every wanted tensor as an output. It writes
`KERNELS.npz`.
"""

import sys
from pathlib import Path

import numpy as np

from tfq_converters.errors import TfqError
from tfq_converters.runtime import Runner

REFUSED = 3  # exit code when the runtime refuses the file or fails, in contrast to a process that dies


def samples(path: Path) -> list[list[np.ndarray]]:
    """The inputs of every sample, from the arrays `sample_input` of an `.npz`."""
    with np.load(path, allow_pickle=False) as content:
        count = 1 + max((int(name.split("_")[0]) for name in content.files), default=-1)
        found: list[list[np.ndarray]] = [[] for _ in range(count)]
        for name in sorted(content.files, key=lambda name: tuple(map(int, name.split("_")))):
            found[int(name.split("_")[0])].append(content[name])
    return found


def main(folder: str, kernels: str) -> int:
    """Run the file of `folder` and save what it computes; returns the exit code."""
    here = Path(folder)
    wanted = np.load(here / "wanted.npy").tolist()
    results: dict[str, np.ndarray] = {}
    try:
        runner = Runner(str(here / "file.tflite"), kernels, keep_tensors=kernels != "default")  # type: ignore[arg-type]
        probe: Runner | None = None
        for n, sample in enumerate(samples(here / "inputs.npz")):
            runner.reset_variables()
            for k, array in enumerate(runner.run(sample)):
                results[f"output_{n}_{k}"] = array
            values = None if kernels == "default" else _kept(runner, wanted)
            if values is None:
                probe = probe or Runner(str(here / "probe.tflite"), kernels)  # type: ignore[arg-type]
                probe.reset_variables()
                values = probe.run(sample)
            results |= {f"tensor_{n}_{t}": value for t, value in zip(wanted, values, strict=True)}
    except TfqError as error:
        print(error, file=sys.stderr)
        return REFUSED
    np.savez(here / f"{kernels}.npz", **results)  # type: ignore[arg-type]
    return 0


def _kept(runner: Runner, wanted: list[int]) -> list[np.ndarray] | None:
    """The intermediates that the interpreter kept; None when it let go of some (around control flow it does)."""
    try:
        return [runner.tensor(t) for t in wanted]
    except ValueError:
        return None


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
