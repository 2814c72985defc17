"""The largest magnitude of each channel, for equalization of activations (Xiao et al. 2023, SmoothQuant, arXiv
2211.10438, equation 4; Li et al. 2023, FPTQ, arXiv 2308.15987, equation 8)."""

import numpy as np

from tfq_fine.extension import Extension


def outputs(extension: Extension, t: int) -> list[int]:
    """What leaves the graph: minimum and maximum over all axes but the last, [C] each."""
    return [extension.over_channels("REDUCE_MIN", t), extension.over_channels("REDUCE_MAX", t)]


def value(found: list[np.ndarray]) -> np.ndarray:
    """The channel magnitudes of one run, float32 [C]."""
    low, high = found
    return np.maximum(-low, high)
