"""The values that the zoo returns: a `Case` to quantize and measure, a `Dataset` to train a model of one's own on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras


MANY = 512  # calibration samples of the models that weight algorithms are compared on


@dataclass(frozen=True)
class Case:
    """A float model with preprocessed data to quantize it and to measure the loss."""

    name: str
    model: keras.Model
    calibration: NDArray[Any]  # (MANY or fewer samples, *input) float32, or int32 token ids; disjoint from test
    test: NDArray[Any]  # (test samples, *input), same type
    labels: NDArray[np.int64] | None  # (test samples, ...); None: random weights, for time only, never accuracy
    classes: int  # width of the model's output


@dataclass(frozen=True)
class Dataset:
    """Labelled samples, split into train and test, as they come (not preprocessed)."""

    train: NDArray[Any]  # (train samples, *sample)
    train_labels: NDArray[np.int64]  # (train samples,) in 0 .. len(names) - 1
    test: NDArray[Any]  # (test samples, *sample)
    test_labels: NDArray[np.int64]  # (test samples,)
    names: tuple[str, ...]  # the names of the classes
