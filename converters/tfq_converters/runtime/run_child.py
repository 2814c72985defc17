"""Runs one file on several sets of kernels in a process of its own, because a bad file may take the process down.

`python -m tfq_converters.runtime.run_child FOLDER` waits for a line that names the kernels, then reads `file.tflite`,
`inputs` and, where the kernels hide their intermediates (the delegate does), `probe.tflite`: the same file with every
wanted tensor as an output. It writes a file `KERNELS` for each (`array_file` has the form of all), or `KERNELS.error`
where the runtime refuses or fails, in contrast to a process that dies.

Where there are `part_0.tflite`, `part_1.tflite` and so on, these run one after the other instead; `parts` says which
tensors of the file they read and show.
"""

import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tfq_converters.errors import TfqError
from tfq_converters.files import ArrayFile, ArrayWriter
from tfq_converters.graph import AnyArray
from tfq_converters.runtime.runner import Kernels, Runner

SMALL_BYTES = 2**26  # size of a file that several kernels run at a time


def samples(found: Mapping[str, AnyArray]) -> list[list[AnyArray]]:
    """Return the inputs of every sample, from the arrays `sample_input`."""
    inputs: dict[int, dict[int, AnyArray]] = {}
    for name in found:
        sample, slot = map(int, name.split("_"))
        inputs.setdefault(sample, {})[slot] = found[name]
    return [[inputs[n][k] for k in sorted(inputs[n])] for n in sorted(inputs)]


def main(folder: str) -> int:
    """Run the file of `folder` and save what it computes; returns the exit code."""
    here = Path(folder)
    kernels: list[Kernels] = sys.stdin.readline().split()  # type: ignore[assignment]
    if not kernels:  # there is no file after all
        return 0
    arrays = ArrayFile(here / "inputs")
    indices = arrays["wanted"].tolist()
    inputs = samples({name: arrays[name] for name in arrays if name != "wanted"})
    workers = len(kernels) if os.path.getsize(here / "file.tflite") <= SMALL_BYTES else 1  # each holds the weights
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda kind: _answer(here, kind, inputs, indices), kernels))
    return 0


def _answer(here: Path, kernels: Kernels, inputs: list[list[AnyArray]], wanted: list[int]) -> None:
    results = ArrayWriter(here / f"{kernels}.part")
    try:
        in_parts = (here / "parts").exists()
        (_run_parts if in_parts else _run)(here, kernels, inputs, wanted, results)
    except TfqError as error:
        (here / f"{kernels}.part").write_text(str(error))
        (here / f"{kernels}.part").rename(here / f"{kernels}.error")
        return
    results.close()
    (here / f"{kernels}.part").rename(here / kernels)


def _run(here: Path, kernels: Kernels, inputs: list[list[AnyArray]], wanted: list[int], results: ArrayWriter) -> None:
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


def _run_parts(
    here: Path, kernels: Kernels, inputs: list[list[AnyArray]], wanted: list[int], results: ArrayWriter
) -> None:
    Runner(str(here / "file.tflite"), kernels)  # the runtime takes it; it unpacks no weights before the first run
    tensors_of = {name: tensors.tolist() for name, tensors in ArrayFile(here / "parts").items()}
    values = [dict(zip(tensors_of["inputs"], sample, strict=True)) for sample in inputs]
    for k in range((len(tensors_of) - 2) // 2):
        runner = Runner(str(here / f"part_{k}.tflite"), kernels)
        for array in values:
            shown = runner.run([array[t] for t in tensors_of[f"inputs_{k}"]])
            array |= dict(zip(tensors_of[f"outputs_{k}"], shown, strict=True))
        del runner  # with its weights
    for n, array in enumerate(values):
        for k, t in enumerate(tensors_of["outputs"]):
            results.add(f"output_{n}_{k}", array[t])
        _save(results, n, wanted, [array[t] for t in wanted])


def _save(results: ArrayWriter, n: int, wanted: list[int], values: list[AnyArray]) -> None:
    for t, value in zip(wanted, values, strict=True):
        results.add(f"tensor_{n}_{t}", value)


def _kept(runner: Runner, wanted: list[int]) -> list[AnyArray] | None:
    """Return the intermediates that the interpreter kept; None when it let go of some (around control flow it does)."""
    try:
        return [runner.tensor(t) for t in wanted]
    except ValueError:
        return None


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
