"""Linear operators in float, in integers and in dynamic range, as the default kernels compute them.

Integers: sums of products of codes are exact (float64 where float32 cannot hold them), then multiplied by
input scale * weight scale / output scale in float32 and rounded to even, as XNNPACK does. Dynamic range: the input is
put on 8 bits per row (FULLY_CONNECTED, BATCH_MATMUL, 1x1 convolutions of 8 bits) or per sample.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfq_converters.graph import Op, Tensor
from tfq_fine.layers import arithmetic
from tfq_fine.layers.twin.codes import ACTIVATIONS, WEIGHTS, affine_of, is_quantized, limits, weight_values
from tfq_fine.layers.twin.operators import FUSED, PADDINGS, fused

EXACT = 2.0**24  # whole numbers up to this are exact in float32
SLOTS = {"TRANSPOSE_CONV": (2, 1, 3)}  # slots of data, weight and bias; (0, 1, 2) for the others
CHANNEL = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "TRANSPOSE_CONV": 0, "CONV_3D": 4, "FULLY_CONNECTED": 0}
LINEAR = frozenset({*CHANNEL, "BATCH_MATMUL"})


def linear(tf: Any, op: Op, x: list[Any], tensors: Mapping[int, Tensor]) -> Any:
    """The output of a linear operator: codes where its output is quantized, else real values.

    Args:
        tf: TensorFlow.
        op: the operator.
        x: its inputs: codes of quantized tensors, None for absent ones.
        tensors: slot -> tensor of the inputs, and -1 -> of the output.
    """
    data, weight, bias = SLOTS.get(op.code, (0, 1, 2))
    if is_quantized(tensors[data]) and tensors[data].dtype in ACTIVATIONS:
        return _integer(tf, op, x, tensors)
    values, stored = x[data], tensors[weight]
    kernel = tf.constant(weight_values(stored)) if is_quantized(stored) else x[weight]
    if is_quantized(stored) and stored.dtype in WEIGHTS:
        values = _on_the_fly(tf, op, values, stored)
    result = product(tf, op, values, kernel, x)
    if op.code != "BATCH_MATMUL":
        given = x[bias] if bias < len(x) else None
        result = fused(tf, op, result if given is None else result + given)
    return result


def _on_the_fly(tf: Any, op: Op, values: Any, weight: Tensor) -> Any:
    pointwise = op.code == "CONV_2D" and weight.shape[1:3] == (1, 1) and weight.dtype == "int8"
    per_row = op.code in ("FULLY_CONNECTED", "BATCH_MATMUL") or pointwise
    if op.code == "FULLY_CONNECTED" and not op.option("keepNumDims"):
        values = tf.reshape(values, [-1, weight.shape[1]])
    return arithmetic.dynamic(values, per_row)


def _integer(tf: Any, op: Op, x: list[Any], tensors: Mapping[int, Tensor]) -> Any:
    data, weight, bias = SLOTS.get(op.code, (0, 1, 2))
    scale, zero = affine_of(tensors[data])
    codes = x[data] - zero
    stored = tensors[weight]
    assert stored.quantization is not None
    kernel, scales = x[weight], np.asarray(stored.quantization.scale, np.float32)
    kernel = kernel - np.float32(stored.quantization.zero_point[0])
    exact = _is_exact(op, tensors[data], stored)
    kind = tf.float32 if exact else tf.float64
    total = product(tf, op, tf.cast(codes, kind), tf.cast(kernel, kind), x)
    if op.code != "BATCH_MATMUL" and bias < len(x) and x[bias] is not None:
        total = tf.cast(total, tf.float64) + tf.cast(x[bias], tf.float64)
    output = tensors[-1]
    out_scale, out_zero = affine_of(output)
    factor = (scale * scales) / out_scale
    if output.dtype == "int16":
        rounded = tf.round(tf.cast(total, tf.float64) * factor.astype(np.float64))
    else:
        rounded = tf.cast(tf.round(tf.cast(total, tf.float32) * factor), tf.float64)
    low, high = limits(output)
    kind = 0 if op.code == "BATCH_MATMUL" else op.option("fusedActivationFunction") or 0
    below, above = (np.rint(limit / out_scale) + out_zero for limit in FUSED[kind])
    return tf.cast(tf.clip_by_value(rounded + out_zero, max(low, below), min(high, above)), tf.float32)


def _is_exact(op: Op, data: Tensor, weight: Tensor) -> bool:
    """Whether float32 holds every sum of products of codes."""
    reach = 255.0 if data.dtype in ("int8", "uint8") else 65535.0
    if weight.data is None:
        return weight.shape[-1] * reach * 255.0 < EXACT
    channel = CHANNEL.get(op.code, 0)
    if op.code == "BATCH_MATMUL":
        return float(np.abs(weight.data.astype(np.float64)).sum(axis=-2).max()) * reach < EXACT
    axes = tuple(axis for axis in range(weight.data.ndim) if axis != channel)
    return float(np.abs(weight.data.astype(np.float64)).sum(axis=axes).max()) * reach < EXACT


def product(tf: Any, op: Op, x: Any, kernel: Any, inputs: list[Any]) -> Any:
    """The operator without bias and activation, in the type of `x`."""
    if op.code == "FULLY_CONNECTED":
        rows = x if op.option("keepNumDims") else tf.reshape(x, [-1, kernel.shape[1]])
        return tf.tensordot(rows, kernel, [[-1], [1]])
    if op.code == "BATCH_MATMUL":
        return tf.matmul(x, kernel, transpose_a=bool(op.option("adjX")), transpose_b=bool(op.option("adjY")))
    padding = PADDINGS[op.option("padding")]
    strides = [op.option("strideH"), op.option("strideW")]
    if op.code == "TRANSPOSE_CONV":
        return tf.nn.conv2d_transpose(x, tf.transpose(kernel, (1, 2, 0, 3)), inputs[0], strides, padding)
    dilations = [op.option("dilationHFactor"), op.option("dilationWFactor")]
    if op.code == "CONV_3D":
        every = [op.option("strideD"), *strides]
        return tf.nn.conv3d(
            x, kernel, [1, *every, 1], padding, dilations=[1, op.option("dilationDFactor"), *dilations, 1]
        )
    if op.code == "DEPTHWISE_CONV_2D":
        _, height, width, channels = kernel.shape
        shaped = tf.reshape(kernel, (height, width, x.shape[-1], channels // x.shape[-1]))
        return tf.nn.depthwise_conv2d(x, shaped, [1, *strides, 1], padding, dilations=dilations)
    groups = x.shape[-1] // kernel.shape[-1]
    parts = zip(tf.split(x, groups, -1), tf.split(kernel, groups, 0), strict=True) if groups > 1 else [(x, kernel)]
    found = [
        tf.nn.conv2d(part, tf.transpose(own, (1, 2, 3, 0)), strides, padding, dilations=dilations)
        for part, own in parts
    ]
    return tf.concat(found, -1) if groups > 1 else found[0]
