"""Fashion-MNIST: 60,000 + 10,000 grey images of 28 x 28 pixels in ten classes.

From apt's dataset-fashion-mnist; on machines without apt from Keras, which downloads it from the web.
"""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.datasets.dataset import Dataset
from examples.datasets.fetch import apt_tree

NAMES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def fashion_mnist() -> Dataset:
    """Train (60000, 28, 28) and test (10000, 28, 28), uint8, 0 is background."""
    if shutil.which("apt-get") is None:
        return _from_keras()
    folder = apt_tree("dataset-fashion-mnist") / "usr/share/datasets/fashion-mnist"
    return Dataset(
        _idx(folder / "train-images-idx3-ubyte.gz"),
        _idx(folder / "train-labels-idx1-ubyte.gz").astype(np.int64),
        _idx(folder / "t10k-images-idx3-ubyte.gz"),
        _idx(folder / "t10k-labels-idx1-ubyte.gz").astype(np.int64),
        NAMES,
    )


def _from_keras() -> Dataset:
    import keras

    (train, train_labels), (test, test_labels) = keras.datasets.fashion_mnist.load_data()
    return Dataset(train, train_labels.astype(np.int64), test, test_labels.astype(np.int64), NAMES)


def _idx(path: Path) -> NDArray[np.uint8]:
    """Return the bytes in a gzipped IDX file: 0, 0, type 8, rank, one big-endian uint32 per side, then the values."""
    content = gzip.decompress(path.read_bytes())
    if content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path}: expected an IDX file of bytes (00 00 08), found {content[:3].hex(' ')}")
    rank = content[3]
    shape = np.frombuffer(content, ">u4", count=rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape.tolist())
