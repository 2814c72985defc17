"""The value that the datasets are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Dataset:
    """Labelled samples, split into train and test, as they come (not preprocessed)."""

    train: NDArray[Any]  # (train samples, *sample)
    train_labels: NDArray[np.int64]  # (train samples,) in 0 .. len(names) - 1
    test: NDArray[Any]  # (test samples, *sample)
    test_labels: NDArray[np.int64]  # (test samples,)
    names: tuple[str, ...]  # the names of the classes
