"""What an algorithm may know of the activations that meet a weight."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class InputStatistics:
    """Statistics of the input of one linear operator; None where calibration did not ask for them."""

    mean: np.ndarray | None = None  # per input channel: float64 [I]
