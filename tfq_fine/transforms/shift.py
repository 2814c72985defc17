"""Outlier Suppression+: the middle of each channel's range is moved from an activation into the biases of its readers.

Wei et al. 2023 (arXiv 2304.09145):

    z_j = (max X_j + min X_j) / 2        X' = X - z        b' = b + W z

so that the range of all channels is no longer than that of the widest channel alone. z is subtracted from the bias of
the operator that makes X, or from the beta of its norm.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from tfq_converters.graph import Float64Array, Graph
from tfq_fine.transforms.cross_layer import GAIN
from tfq_fine.transforms.noise import Channels, Levels
from tfq_fine.transforms.smoothing import SmoothingPath
from tfq_fine.transforms.smoothing_choice import Smoothing, readers_of


def middle(channels: Channels) -> Float64Array:
    """Return z [C].

    >>> middle(Channels(np.array([-1.0, 2.0]), np.array([1.0, 6.0]), np.ones(2))).tolist()
    [0.0, 4.0]
    """
    z: Float64Array = (channels.high + channels.low) / 2
    return z


def choose_shifts(
    graph: Graph,
    paths: Sequence[SmoothingPath],
    known: Mapping[int, Channels],
    levels: Mapping[int, Levels],
    most: int | None = None,
) -> Smoothing:
    """Return the shifts z of activations that lower the estimated noise; the arguments are those of `choose_smoothing`.

    A weight's rounding error is multiplied by X' alone: the bias gets the product of z and the float weight.
    """
    changes: list[tuple[SmoothingPath, Float64Array]] = []
    before = after = 0.0
    for path in paths:
        channels, one = known[path.tensor], np.ones(path.channels)
        z = middle(channels)
        half = (channels.high - channels.low) / 2
        moved = Channels(-half, half, np.minimum(half**2, channels.square), channels.count)
        readers = readers_of(graph.main, path, levels, most)
        without = sum(reader.noise(channels, one) for reader in readers)
        noise = sum(reader.noise(moved, one) * reader.signal(moved) / reader.signal(channels) for reader in readers)
        gains = noise < (1 - GAIN) * without
        before, after = before + without, after + (noise if gains else without)
        if gains:
            changes.append((path, z))
    return Smoothing(tuple(changes), before, after)
