"""Smallest value, largest value and mean square of each channel, for equalization across layers.

Nagel et al. 2019, arXiv 1906.04721, section 4.1.
"""

from tfq_converters.graph_edit import GraphBuilder, steps


def outputs(builder: GraphBuilder, t: int) -> list[int]:
    """Add the operators; minimum, maximum and mean square over all axes but the last, [C] each."""
    reduced = (("REDUCE_MIN", t), ("REDUCE_MAX", t), ("MEAN", steps.squared(builder, t)))
    return [steps.over_channels(builder, code, source) for code, source in reduced]
