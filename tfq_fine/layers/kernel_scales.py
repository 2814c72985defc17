"""The scales of one kernel in a simulation: trained (LSQ), or shares of the extent of its blocks."""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfq_converters.graph import Float32Array, Float64Array, Int64Array
from tfq_fine.algorithms import InputStatistics, WeightProblem, algorithm_of, solve, with_stand_in
from tfq_fine.emulation import affine_tf as arithmetic
from tfq_fine.layers.fitted_kernel import FixedScale
from tfq_fine.layers.kernel import QuantizedKernel
from tfq_fine.layers.layer_table import from_op, to_op
from tfq_fine.layers.trained_scale import TrainedScale
from tfq_fine.numerics import affine


def quantized_values(q: QuantizedKernel) -> Any:
    """Return a kernel's values as the file will hold them, of the variable's shape, with straight-through gradients."""
    held = q.variable.value if q.fitted is None else q.variable.value + q.fitted.offset.value
    values = to_op(held, q.layout, keras.ops)
    shape = tuple(values.shape)
    if isinstance(q.factors, TrainedScale):
        exact = q.factors.trained(math.prod(q.plan.block), q.plan.codes.highest)
        scale = arithmetic.rounded_scale(exact, q.plan.codes)
        zero = tf.zeros_like(scale)
    elif isinstance(q.factors, FixedScale):
        low, high = arithmetic.block_extent(tf.stop_gradient(values), q.plan.block)
        scale, zero = q.factors.or_else(*arithmetic.weight_scale(low, high, q.plan.codes))
    else:
        low, high = arithmetic.block_extent(tf.stop_gradient(values), q.plan.block)
        scale, zero = arithmetic.weight_scale(low * q.factors.value, high * q.factors.value, q.plan.codes)
    scale, zero = (arithmetic.expanded(part, q.plan.block, shape) for part in (scale, zero))
    quantized = arithmetic.fake_quantized(values, scale, zero, q.plan.codes.lowest, q.plan.codes.highest)
    return from_op(quantized, q.layout, tuple(q.variable.shape), keras.ops)


def fit_scales(q: QuantizedKernel, mean: Float64Array | None) -> None:
    """Choose the scales of a kernel with the algorithm of its spec.

    Args:
        q: the kernel.
        mean: the mean of every input channel, [channels]; None where no data was seen yet.
    """
    weights, inputs = q.plan.spec.weights, InputStatistics(mean)
    if inputs.missing(algorithm_of(weights).reads):
        weights = with_stand_in(weights)
    codes = solve(weights, WeightProblem(q.values, q.plan.block, q.plan.codes, q.plan.axes, inputs))
    if q.fitted is not None:
        q.fitted.hold(q, codes)
    elif isinstance(q.factors, TrainedScale):
        q.factors.set(codes.scale)
    else:
        q.factors.assign(affine.extent_shares(codes.scale, q.values, q.plan.block, q.plan.codes))


def scales_now(q: QuantizedKernel) -> tuple[Float32Array, Int64Array]:
    """Return the scales and zero points that `quantized_values` uses now, of the shape of the kernel's blocks."""
    if isinstance(q.factors, TrainedScale):
        scale = q.factors.numpy()
        return affine.ROUNDED_SCALES[q.plan.codes.scales](scale), np.zeros(scale.shape, np.int64)
    if isinstance(q.factors, FixedScale):
        return q.factors.numpy(*q.extent_scales())
    return q.extent_scales(np.asarray(q.factors))
