"""A float model as a package ships it, with inputs as the package makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

VALUES = "values"  # coordinates, boxes, maps: how far off they are is what counts
LARGEST = "largest"  # scores of which the largest along the last axis is chosen
Kind = str | float  # `VALUES`, `LARGEST`, or the limit that decides about each score by itself


@dataclass(frozen=True)
class FileCase:
    """A model without labels, to compare a quantized file with; it has one input and one or several outputs."""

    name: str
    model: Any  # the bytes of a .tflite file, the path of a SavedModel, or a Keras model
    calibration: NDArray[np.float32]  # (calibration samples, *input), disjoint from test
    test: NDArray[np.float32]  # (test samples, *input)
    kinds: tuple[Kind, ...]  # what each output is for whoever uses the model, in output order
