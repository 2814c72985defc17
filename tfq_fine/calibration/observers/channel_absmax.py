"""The largest magnitude of each channel, for equalization of activations.

Xiao et al. 2023, SmoothQuant, arXiv 2211.10438, equation 4; Li et al. 2023, FPTQ, arXiv 2308.15987, equation 8.
"""

import numpy as np

from tfq_converters.graph import Float32Array
from tfq_converters.graph_edit import GraphBuilder, steps


def outputs(builder: GraphBuilder, t: int) -> list[int]:
    """Return the tensors that leave the graph: minimum and maximum over all axes but the last, [C] each."""
    return [steps.over_channels(builder, "REDUCE_MIN", t), steps.over_channels(builder, "REDUCE_MAX", t)]


def value(found: list[Float32Array]) -> Float32Array:
    """Return the channel magnitudes of one run, float32 [C]."""
    low, high = found
    return np.asarray(np.maximum(-low, high))
