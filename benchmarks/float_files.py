"""One case of the zoo on disk, in every form that a tool starts from: `python -m benchmarks.float_files CASE FOLDER`.

It is made in a process of its own, so that the measuring process never loads Keras.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import child
from benchmarks.zoo import CASES, Case


@dataclass(frozen=True)
class Files:
    """The files of one case."""

    folder: Path

    @property
    def tflite(self) -> Path:
        """The float .tflite file."""
        return self.folder / "float.tflite"

    @property
    def saved_model(self) -> Path:
        """The SavedModel folder."""
        return self.folder / "saved_model"

    def signature(self) -> tuple[str, str]:
        """Key of the .tflite file's signature, and the name of its one input there."""
        key, name = json.loads((self.folder / "signature.json").read_text())
        return key, name

    def calibration(self, most: int = 100) -> np.ndarray:
        """Representative samples (at most `most`, *input)."""
        return np.load(self.folder / "calibration.npy", mmap_mode="r")[:most].copy()

    def test(self) -> np.ndarray:
        """Samples to measure on (n, *input); read as they are used."""
        return np.load(self.folder / "test.npy", mmap_mode="r")

    def labels(self) -> np.ndarray | None:
        """Labels of the test samples (n,); None where there are none."""
        path = self.folder / "labels.npy"
        return np.load(path) if path.exists() else None


def write_files(case: Case, folder: Path) -> Files:
    """Write the files of a case into an empty folder."""
    from tfq_converters.reading import read_model

    files = Files(folder)
    source: Any = read_model(case.model)
    files.tflite.write_bytes(source.content)
    (signature,) = source.graph.signatures
    ((name, _),) = signature.inputs
    (folder / "signature.json").write_text(json.dumps([signature.key, name]))
    case.model.export(str(files.saved_model), verbose=False)
    np.save(folder / "calibration.npy", case.calibration)
    np.save(folder / "test.npy", case.test)
    if case.labels is not None:
        np.save(folder / "labels.npy", case.labels)
    return files


def prepared(name: str, work: Path) -> Files:
    """Return the files of the case `name` in WORK/NAME; made there first, in another process, if they are missing."""
    place = work / name
    if not place.exists():
        work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=work) as scratch:
            made = Path(scratch) / name
            made.mkdir()
            command = child.command("float_files", name, made)
            done = subprocess.run(command, env=child.environment(), capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{name}: making its float files failed\n{done.stderr[-3000:]}")
            made.rename(place)
    return Files(place)


if __name__ == "__main__":
    write_files(CASES[sys.argv[1]](), Path(sys.argv[2]))
