"""The noise that quantization adds to a linear operator, estimated from its weights and input channels.

Noise of step/sqrt(12) on every input reaches the output through the weights, noise of the weights through the inputs:

    act[o] = step(x)^2 / 12 * sum_i W[o, i]^2        weight[o] = step(W[o])^2 / 12 * sum_i E[x_i^2]

both over the sum of squares of the row, so that outputs count alike; the sum over o is divided by that of the signal.
"""

from dataclasses import dataclass

import numpy as np

from tfq_converters.check import sqnr_db
from tfq_converters.graph import Float32Array, Float64Array

TYPICAL = 4.0  # root mean squares


@dataclass(frozen=True)
class Channels:
    """The known facts about the channels of an activation."""

    low: Float64Array  # float64 [C]
    high: Float64Array  # float64 [C]
    square: Float64Array  # float64 [C], mean of the squares
    count: int = 1  # values in each channel

    def union(self, other: "Channels") -> "Channels":
        """Return the facts about the values of both."""
        count = self.count + other.count
        square = (self.square * self.count + other.square * other.count) / count
        return Channels(np.minimum(self.low, other.low), np.maximum(self.high, other.high), square, count)

    def scaled(self, scale: Float64Array) -> "Channels":
        """Return each channel times its positive scale [C]."""
        return Channels(self.low * scale, self.high * scale, self.square * scale**2, self.count)

    def typical(self) -> "Channels":
        """Return the channels as if none exceeded `TYPICAL` times its root mean square: a rare peak decides nothing."""
        reach = TYPICAL * np.sqrt(self.square)
        return Channels(np.maximum(self.low, -reach), np.minimum(self.high, reach), self.square, self.count)

    @property
    def reach(self) -> Float64Array:
        """The largest magnitude in each channel."""
        return np.asarray(np.maximum(-self.low, self.high))

    @property
    def extent(self) -> float:
        """Length of the range of all channels and 0."""
        return float(max(self.high.max(), 0.0) - min(self.low.min(), 0.0))


@dataclass(frozen=True)
class Levels:
    """Into how many steps the extent of an activation, and the magnitude of a weight, are cut."""

    activation: float  # infinite where it stays float
    weight: float


@dataclass(frozen=True)
class Rows:
    """The weights of a linear operator, reduced over its window."""

    square: Float64Array  # float64 [O, I], sums; I are the channels that an output sees, one where it is depthwise
    largest: Float64Array  # float64, as `square`
    window: int  # positions that the sums are over

    @staticmethod
    def of(weight: Float32Array, channel: int, inputs: int | None) -> "Rows":
        """Return the rows of a weight with these axes of output channels and of inputs."""
        last = weight if inputs is None else np.moveaxis(weight, inputs, -1)
        axis = channel if inputs is None or channel < inputs else channel - 1
        rows = np.moveaxis(last, axis, 0)
        rows = rows.reshape(len(rows), -1, 1) if inputs is None else rows.reshape(len(rows), -1, rows.shape[-1])
        square = np.einsum("owi,owi->oi", rows, rows).astype(np.float64)
        return Rows(square, np.maximum(rows.max(axis=1), -rows.min(axis=1)).astype(np.float64), rows.shape[1])

    def noise(self, channels: Channels, levels: Levels, scale: Float64Array, before: float = 0.0) -> float:
        """Return the relative noise of the outputs when inputs are multiplied, and weights divided, by `scale` [C].

        `before` is the extent of what was rounded on the way to the inputs.
        """
        scaled = channels.scaled(scale)
        square, largest = self.square / self._seen(scale**2), self.largest / self._seen(scale)
        total = np.maximum(self.square.sum(axis=1), np.finfo(np.float64).tiny)  # squares of the unchanged rows
        extent = scaled.extent**2 + before**2
        activation = extent / levels.activation**2 * (square.sum(axis=1) / total).sum()
        inputs = np.broadcast_to(self._seen(scaled.square), square.shape).sum(axis=1) * self.window
        weight = ((largest.max(axis=1) / levels.weight) ** 2 / total * inputs).sum()
        signal = ((square * self._seen(scaled.square)).sum(axis=1) / total).sum()
        return float((activation + weight) / 12 / signal) if signal else 0.0

    def signal(self, channels: Channels) -> float:
        """Return the sum of the mean squares of outputs, each over the sum of squares of its row; never 0.

        That is as if the values of different channels had nothing to do with one another.
        """
        tiny = np.finfo(np.float64).tiny
        total = np.maximum(self.square.sum(axis=1), tiny)
        return max(float(((self.square * self._seen(channels.square)).sum(axis=1) / total).sum()), tiny)

    def _seen(self, values: Float64Array) -> Float64Array:
        """Return values [C] of the input channels as in `square`: each group of outputs sees its own channels."""
        outputs, inputs = self.square.shape
        groups = max(len(values) // inputs, 1)
        return np.repeat(values.reshape(groups, -1), outputs // groups, axis=0) if groups > 1 else values[None]

    def reach(self, channels: int) -> Float64Array:
        """Return the largest share that each input channel has in a row [C]; 1 where an output sees no other."""
        if self.square.shape[1] == 1 and channels > 1:
            return np.ones(channels)
        norm = np.sqrt(np.maximum(self.square.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny))
        shares = (self.largest / norm).reshape(channels // self.square.shape[1], -1, self.square.shape[1])
        largest: Float64Array = shares.max(axis=1).reshape(-1)
        return largest


def decibels(before: float, after: float) -> float:
    """Return how much smaller `after` is; 0 where there was nothing."""
    return sqnr_db(before, after) if before > 0 and after > 0 else 0.0
