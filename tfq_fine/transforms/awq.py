"""AWQ: weights that meet large activations are scaled up before they are rounded.

Lin et al. 2023 (arXiv 2306.00978):

    s_j = mean|X_j|^alpha        alpha* = argmin over [0, 1] of || Q(W diag(s)) diag(s)^-1 X - W X ||

with 20 values of alpha, s divided by sqrt(max s * min s) as in the authors' code. One s serves all that read an
activation, whose errors add up, each relative to its output. The error of one operator with the error E of its weights
is tr(E M E^T), M = E[x x^T]. Where an output sees several positions of the activation, what two of them share is left
out; where channels repeat or come in groups, so is what two channels share.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfq_converters.graph import Float32Array, Float64Array, FloatArray, Graph, Subgraph
from tfq_converters.operators import WeightAxes, weight_axes
from tfq_fine.transforms.channel_affine import Leaf
from tfq_fine.transforms.cross_layer import GAIN
from tfq_fine.transforms.editing import along
from tfq_fine.transforms.smoothing import SmoothingPath
from tfq_fine.transforms.smoothing_choice import Smoothing, bounded

ALPHAS = tuple(np.arange(20) / 20)

# (float32 weight of an operator, in its axes) -> the values that its codes stand for
Rounded = Callable[[Float32Array], Float32Array]


@dataclass(frozen=True)
class InputMoments:
    """The mean magnitude of each channel [C] of an activation, and the mean of x x^T [C, C]."""

    magnitude: Float64Array
    second: Float64Array
    count: int  # values in each channel

    @staticmethod
    def of(values: FloatArray) -> "InputMoments":
        """Return the moments of values [..., C]."""
        rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
        return InputMoments(np.abs(rows).mean(axis=0), rows.T @ rows / len(rows), len(rows))

    def plus(self, other: "InputMoments") -> "InputMoments":
        """Return the moments of the values of both."""
        count = self.count + other.count
        mine, others = self.count / count, other.count / count
        return InputMoments(
            mine * self.magnitude + others * other.magnitude, mine * self.second + others * other.second, count
        )


def awq_factors(magnitude: Float64Array, alpha: float) -> Float64Array:
    """Return s [C] for mean|X_j| [C]; channels without values get the smallest one.

    >>> awq_factors(np.array([16.0, 1.0, 0.0]), 0.5).tolist()
    [2.0, 0.5, 0.5]
    """
    if not magnitude.any():
        return np.ones(len(magnitude))
    s = np.maximum(magnitude, magnitude[magnitude > 0].min()) ** alpha
    factors: Float64Array = s / np.sqrt(s.max() * s.min())
    return factors


def choose_awq(
    graph: Graph,
    paths: Sequence[SmoothingPath],
    moments: Mapping[int, InputMoments],
    rounded: Mapping[int, Rounded],
) -> Smoothing:
    """Return the factors of each activation that give its readers the least error.

    Args:
        graph: the float graph.
        paths: the activations.
        moments: activation -> its moments.
        rounded: linear operator -> how its weights are rounded; others are not looked at.
    """
    changes: list[tuple[SmoothingPath, Float64Array]] = []
    before = after = 0.0
    for path in paths:
        of_input = moments[path.tensor]
        tried = [bounded(awq_factors(of_input.magnitude, alpha)) for alpha in ALPHAS]  # the first one leaves all alone
        read = [leaf for leaf in path.leaves if leaf.op in rounded]
        errors = [sum(_error(graph.main, leaf, of_input, s, rounded[leaf.op]) for leaf in read) for s in tried]
        best = int(np.argmin(errors))
        best = best if errors[best] < (1 - GAIN) * errors[0] else 0
        before, after = before + errors[0], after + errors[best]
        if best:
            changes.append((path, tried[best]))
    return Smoothing(tuple(changes), before, after)


def _error(main: Subgraph, leaf: Leaf, moments: InputMoments, s: Float64Array, rounded: Rounded) -> float:
    """Return the relative error of an operator's output when its weights are rounded after a multiplication with s."""
    (axes,) = weight_axes(main.ops[leaf.op], main)
    weight = main.tensors[main.ops[leaf.op].inputs[axes.slot]].constant
    factors = _as_weight(s, weight.shape, axes, leaf.repeats)
    error = rounded((weight * factors).astype(np.float32)) / factors - weight
    signal = _energy(weight, axes, leaf, moments)
    return _energy(error, axes, leaf, moments) / signal if signal else 0.0


def _energy(weight: FloatArray, axes: WeightAxes, leaf: Leaf, moments: InputMoments) -> float:
    """Return the sum over outputs of the mean square of weight times input."""
    channels = len(moments.magnitude)
    if axes.inputs is not None and weight.shape[axes.inputs] == channels:
        rows = np.moveaxis(weight, axes.inputs, -1).reshape(-1, channels).astype(np.float64)
        return float(((rows @ moments.second) * rows).sum())
    squares = _as_weight(np.diagonal(moments.second), weight.shape, axes, leaf.repeats)
    return float((np.square(weight, dtype=np.float64) * squares).sum())


def _as_weight(values: Float64Array, shape: tuple[int, ...], axes: WeightAxes, repeats: int) -> Float64Array:
    """Return values [C] of input channels so that they broadcast against a weight: each group sees its own."""
    if axes.inputs is None:
        return np.asarray(along(np.repeat(values, shape[axes.channel] // len(values)), axes.channel, len(shape)))
    wide = np.tile(values, repeats)
    inputs = shape[axes.inputs]
    by_output = np.repeat(wide.reshape(-1, inputs), shape[axes.channel] * inputs // len(wide), axis=0)  # [O, I]
    if axes.channel > axes.inputs:
        by_output = by_output.T
    return by_output.reshape([size if axis in (axes.channel, axes.inputs) else 1 for axis, size in enumerate(shape)])
