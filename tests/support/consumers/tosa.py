"""TOSA: a converter to its dialect of MLIR, a serializer, and the reference model, which runs what they made."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from support.consumers.installed import tosa_python

RUN = """
import sys, numpy, tosa_reference_model as model
graph = open(sys.argv[1], "rb").read()
for path in sys.argv[2:]:
    (found, *_), status = model.run(graph, [numpy.load(path)])
    assert status == model.GraphStatus.TOSA_VALID, status
    numpy.save(path, found)
"""


class TosaRefusesError(Exception):
    """One of the three tools does not take the file."""


def converted(content: bytes, folder: Path) -> Path:
    """The file in TOSA's dialect of MLIR.

    Raises:
        TosaRefusesError: with the last of what the converter said.
    """
    file, module = folder / "model.tflite", folder / "model.mlirbc"
    file.write_bytes(content)
    _call(Path(sys.executable).with_name("tosa-converter-for-tflite"), file, "-o", module)
    return module


def outputs(content: bytes, inputs: list[np.ndarray], folder: Path) -> np.ndarray:
    """The first output for each input, as float64, [samples, ...].

    Raises:
        TosaRefusesError: with the name of the tool, and the last of what it said.
    """
    python, module, graph = tosa_python(), converted(content, folder), folder / "model.tosa"
    paths = [folder / f"{n}.npy" for n in range(len(inputs))]
    for path, array in zip(paths, inputs, strict=True):
        np.save(path, array)
    _call(python.with_name("tosa-opt"), module, "--tosa-serialize", f"--tosa-flatbuffer-filename={graph}")
    _call(python, "-c", RUN, graph, *paths)
    return np.concatenate([np.load(path) for path in paths]).astype(np.float64)


def _call(program: Path, *arguments: object) -> None:
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise TosaRefusesError(f"{program.name}: {(done.stderr.strip() or done.stdout.strip())[-500:]}")
