"""The choice of factors for activations whose makers scale their channels (`smoothing`).

A candidate is a vector s [C]: x' = x / s, W' = W s. Each activation gets the one with the least `noise` over
all of its readers, or none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfq_converters.graph import Float64Array, Graph, Subgraph
from tfq_fine.transforms.cross_layer import GAIN, extent, weight_rows
from tfq_fine.transforms.noise import Channels, Levels, Rows
from tfq_fine.transforms.smoothing import SmoothingPath

LIMIT = 1e3  # how far a factor of an activation may be from the middle one

Candidates = Callable[
    [Float64Array, Float64Array], Sequence[Float64Array]
]  # (max|X_j| [C], max|W_j| [C]) -> each s [C]


@dataclass(frozen=True)
class Smoothing:
    """The factors s of each activation, and the estimated gain."""

    changes: tuple[tuple[SmoothingPath, Float64Array], ...]
    before: float  # relative noise, summed over all that read an activation that was looked at
    after: float


@dataclass(frozen=True)
class Reader:
    """A linear operator that reads an activation, and the precision of its input and weights."""

    rows: Rows
    repeats: int
    levels: Levels

    def noise(self, channels: Channels, scale: Float64Array, before: float = 0.0) -> float:
        """Return the relative noise of its outputs when the activation is multiplied by `scale` [C]."""
        return self.rows.noise(self._wide(channels), self.levels, np.tile(scale, self.repeats), before)

    def signal(self, channels: Channels) -> float:
        """Return the sum of the mean squares of the outputs, which `noise` is relative to."""
        return self.rows.signal(self._wide(channels))

    def _wide(self, channels: Channels) -> Channels:
        """Return the channels, repeated as often as the operator reads them."""
        low, high, square = (np.tile(values, self.repeats) for values in (channels.low, channels.high, channels.square))
        return Channels(low, high, square, channels.count)

    def reach(self, channels: int) -> Float64Array:
        """Return the largest magnitude of the weights that read each channel [C]."""
        outputs, inputs = self.rows.largest.shape
        groups = channels * self.repeats // inputs
        by_group = self.rows.largest.reshape(groups, outputs // groups, inputs).max(axis=1)
        return np.asarray(by_group.reshape(self.repeats, channels).max(axis=0))


def readers_of(
    main: Subgraph, path: SmoothingPath, levels: Mapping[int, Levels], most: int | None
) -> tuple[Reader, ...]:
    """Return the quantized readers of an activation, with at most `most` of their output channels (None: all)."""
    leaves = [leaf for leaf in path.leaves if leaf.op in levels]
    return tuple(Reader(weight_rows(main, leaf.op, most), leaf.repeats, levels[leaf.op]) for leaf in leaves)


def choose_smoothing(
    graph: Graph,
    paths: Sequence[SmoothingPath],
    known: Mapping[int, Channels],
    levels: Mapping[int, Levels],
    candidates: Candidates,
    most: int | None = None,
) -> Smoothing:
    """Return the best factors of each activation, where they lower the estimated noise.

    Args:
        graph: the float graph.
        paths: the activations to scale.
        known: activation -> the statistics of its channels; also for activations inside paths.
        levels: linear operator -> the numbers of levels of its input and its weights.
        candidates: the factors that are tried.
        most: number of output channels of each operator that the estimate reads; None for all.
    """
    changes: list[tuple[SmoothingPath, Float64Array]] = []
    before = after = 0.0
    for path in paths:
        readers, channels = readers_of(graph.main, path, levels, most), known[path.tensor]
        inner = [known[t] for t in path.inner]
        reach = np.max([reader.reach(path.channels) for reader in readers], axis=0)
        tried = [np.ones(path.channels), *(bounded(s) for s in candidates(channels.reach, reach))]
        noises = [sum(reader.noise(channels, 1 / s, extent(inner, 1 / s)) for reader in readers) for s in tried]
        best = int(np.argmin(noises))
        best = best if noises[best] < (1 - GAIN) * noises[0] else 0
        before, after = before + noises[0], after + noises[best]
        if best:
            changes.append((path, tried[best]))
    return Smoothing(tuple(changes), before, after)


def bounded(s: Float64Array) -> Float64Array:
    """Return factors clipped to 1 / LIMIT to LIMIT times their geometric mean: a channel may be 0 on the samples alone.

    >>> bounded(np.array([1e-9, 1.0, 1.0])).round(6).tolist()
    [1e-06, 1.0, 1.0]
    """
    middle = np.exp(np.log(s).mean())
    limited: Float64Array = np.clip(s, middle / LIMIT, middle * LIMIT)
    return limited
