"""Bias correction: quantized weights W + dW shift the mean of every output by dW E[x]; the bias takes that back.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv 1906.04721), section
4.2, with E[x] measured on the representative data.
"""

import numpy as np

from tfq_converters.graph import Float32Array, Float64Array
from tfq_converters.operators import WeightAxes
from tfq_fine.algorithms import to_matrices


def mean_shift(weight: Float32Array, stored: Float32Array, axes: WeightAxes, means: Float64Array) -> Float64Array:
    """Return what the error of the weights does to the mean of every output of a linear operator.

    Args:
        weight: the float weight.
        stored: what its codes stand for, of the same shape.
        axes: which axes of the weight are output channels and inputs; without an inputs axis, channel c of the output
            sees channel c of the input alone (depthwise; channel c // m with a depth multiplier m).
        means: means of the input per channel, [N, I]: each row is one case.

    Returns:
        float64 [N, O].
    """
    error = stored.astype(np.float64) - weight
    if axes.inputs is None:
        per_channel = error.sum(axis=tuple(axis for axis in range(error.ndim) if axis != axes.channel))
        shift: Float64Array = per_channel * np.repeat(means, len(per_channel) // means.shape[1], axis=1)
        return shift
    rest = tuple(axis for axis in range(error.ndim) if axis not in (axes.channel, axes.inputs))
    per_input = error.sum(axis=rest)  # [O, I], or [I, O] when the inputs come first
    per_input = per_input if axes.channel < axes.inputs else per_input.T
    groups = means.shape[1] // per_input.shape[1]  # grouped convolutions see a slice of the input each
    pairs = zip(np.split(per_input, groups), np.split(means, groups, axis=1), strict=True)
    return np.concatenate([piece @ part.T for part, piece in pairs], axis=1)


def corrected_bias(
    bias: Float32Array,
    weight: Float32Array,
    stored: Float32Array,
    axes: WeightAxes,
    mean: Float64Array,
) -> Float32Array:
    """Return the bias that keeps the mean output of a linear operator.

    Args:
        bias: float32 [O].
        weight: see `mean_shift`.
        stored: see `mean_shift`.
        axes: see `mean_shift`.
        mean: mean of the input per channel [I].

    Returns:
        float32 [O].
    """
    return np.asarray((bias - mean_shift(weight, stored, axes, mean[None])[0]).astype(np.float32))


def whole_shift(
    weight: Float32Array,
    stored: Float32Array,
    axes: WeightAxes,
    exact: Float64Array,
    quantized: Float64Array,
) -> Float64Array:
    """Return what the errors of weights and inputs together do to the mean of every output.

    Args:
        weight: see `mean_shift`.
        stored: see `mean_shift`.
        axes: see `mean_shift`.
        exact: mean patch of the float input, [groups, K].
        quantized: mean patch of the input as the quantized operators before it compute it, [groups, K].

    Returns:
        float64 [O], V E[q] - W E[x].
    """
    before, after = (to_matrices(array, axes, *exact.shape).astype(np.float64) for array in (weight, stored))
    shift: Float64Array = np.einsum("grk,gk->gr", after, quantized) - np.einsum("grk,gk->gr", before, exact)
    return shift.reshape(-1)
