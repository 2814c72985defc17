"""P-, R- and O-Net of PyPI mtcnn 1.0.0: subclassed Keras models, built by calling them on an input."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from benchmarks.zoo.file_case import LARGEST, VALUES, FileCase, Kind
from benchmarks.zoo.photos import crops
from examples.datasets.fetch import pip_wheel, unpacked, zip_members

CALIBRATION, TEST = 128, 64  # crops
KINDS: dict[str, tuple[Kind, ...]] = {  # face or not; boxes; O-Net has five points of the face first
    "pnet": (LARGEST, VALUES),
    "rnet": (LARGEST, VALUES),
    "onet": (VALUES, VALUES, LARGEST),
}
SIDES = {"pnet": 48, "rnet": 24, "onet": 48}  # pixels; P-Net takes images of any size


def mtcnn(name: str) -> FileCase:
    """Return `pnet`, `rnet` or `onet` with its weights, and crops of photos from -1 to 1, as the package makes them."""
    side = SIDES[name]
    calibration, test = (
        (crops(side, side, count, is_test).astype(np.float32) - np.float32(127.5)) / np.float32(128)
        for count, is_test in ((CALIBRATION, False), (TEST, True))
    )
    with _importable():
        network = importlib.import_module(f"mtcnn.network.{name}")
        frame, joblib = importlib.import_module("lz4.frame"), importlib.import_module("joblib")
        model = getattr(network, f"{name[0].upper()}Net")()
        model(calibration[:1])
        (packed,) = zip_members(pip_wheel("mtcnn", "1.0.0"), f"mtcnn/assets/weights/{name}.lz4").values()
        model.set_weights(joblib.load(io.BytesIO(frame.decompress(packed))))
    return FileCase(f"mtcnn_{name}", model, calibration, test, KINDS[name])


@contextmanager
def _importable() -> Iterator[None]:
    """Put the package, and the package that unpacks its weights, on the import path."""
    folders = [str(unpacked(pip_wheel(*package))) for package in (("mtcnn", "1.0.0"), ("lz4", "4.4.4"))]
    sys.path[:0] = folders
    try:
        yield
    finally:
        for folder in folders:
            sys.path.remove(folder)
