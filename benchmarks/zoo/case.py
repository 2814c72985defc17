"""The value that the zoo returns: a `Case` to quantize and measure."""

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
