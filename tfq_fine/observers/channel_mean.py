"""The mean of each channel, for bias correction (Nagel et al. 2019, arXiv 1906.04721, section 4.2)."""

import numpy as np

from tfq_fine.extension import Extension


def outputs(extension: Extension, t: int) -> list[int]:
    """What leaves the graph: the mean over all axes but the last, [C]."""
    return [extension.over_channels("MEAN", t)]


def value(found: list[np.ndarray]) -> np.ndarray:
    """The channel means of one run, float64 [C]."""
    (mean,) = found
    return mean.astype(np.float64)
