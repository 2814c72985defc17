"""The mean of each channel, for bias correction (Nagel et al. 2019, arXiv 1906.04721, section 4.2)."""

import numpy as np

from tfq_converters.graph import Float32Array, Float64Array
from tfq_converters.graph_edit import GraphBuilder, steps


def outputs(builder: GraphBuilder, t: int) -> list[int]:
    """Return the tensors that leave the graph: the mean over all axes but the last, [C]."""
    return [steps.over_channels(builder, "MEAN", t)]


def value(found: list[Float32Array]) -> Float64Array:
    """Return the channel means of one run, float64 [C]."""
    (mean,) = found
    return mean.astype(np.float64)
