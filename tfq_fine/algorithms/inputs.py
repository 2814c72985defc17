"""What an algorithm may know of the activations that meet a weight."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class InputStatistics:
    """Statistics of the input of one linear operator.

    None where there are none: without data, in loops, and in files that need no data, when no bias is corrected by it.
    """

    mean: np.ndarray | None = None  # per input channel: float64 [I]
