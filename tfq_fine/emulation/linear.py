"""Linear operators in float, in integers and in dynamic range, as the default kernels compute them.

Integers: sums of products of codes are exact (float64 where float32 cannot hold them), then brought to the scale of the
output as the kernel does that runs the operator (`rescaling`). Dynamic range: the input is put on 8 bits per row
(FULLY_CONNECTED, BATCH_MATMUL, 1x1 convolutions of 8 bits) or per sample. Float: in the order of XNNPACK (`sums`) in a
graph that rounds activations, where the last bit of a sum may decide about a code.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfq_converters.graph import ABSENT, Graph, Op, Subgraph, Tensor
from tfq_converters.kernels import is_delegated
from tfq_converters.operators import data_slot, facts_of, padding_of
from tfq_fine.emulation import affine_tf as arithmetic
from tfq_fine.emulation.blocks import in_blocks
from tfq_fine.emulation.codes import ACTIVATIONS, WEIGHTS, affine_of, fused_limits, is_quantized
from tfq_fine.emulation.constants import Constants
from tfq_fine.emulation.operators import fused
from tfq_fine.emulation.rescaling import rescaled, rounding
from tfq_fine.emulation.sums import ORDERED, ordered_sums
from tfq_fine.emulation.windows import dilations, strides

EXACT = 2.0**24  # whole numbers up to this are exact in float32


def rounds_activations(graph: Graph) -> bool:
    """Return whether `graph` puts float activations on codes: a QUANTIZE, or a dynamic-range operator."""
    return any(op.code == "QUANTIZE" or _is_dynamic(op, graph.subgraphs[s]) for (s, _), op in graph.ops())


def _is_dynamic(op: Op, subgraph: Subgraph) -> bool:
    if not facts_of(op.code).linear:
        return False
    data, weight = (subgraph.tensors[op.inputs[slot]] for slot in _slots(op)[:2])
    return is_quantized(weight) and weight.dtype in WEIGHTS and not is_quantized(data)


def _slots(op: Op) -> tuple[int, int, int]:
    """Return the slots of data, weight and bias; the last one counts where the operator has so many inputs."""
    bias = facts_of(op.code).bias
    return data_slot(op.code), 1, 2 if bias is None else bias


def linear(tf: Any, op: Op, x: list[Any], subgraph: Subgraph, constants: Constants, ordered: bool) -> Any:
    """Return the output of a linear operator: codes where its output is quantized, else real values.

    Args:
        tf: TensorFlow.
        op: the operator.
        x: its inputs: codes of quantized tensors, None for absent ones.
        subgraph: the one that holds it.
        constants: the constants of the file.
        ordered: float sums in the order of the kernel, which takes longer.
    """
    data, weight, bias = _slots(op)
    tensors = {slot: subgraph.tensors[t] for slot, t in enumerate(op.inputs) if t != ABSENT}
    if is_quantized(tensors[data]) and tensors[data].dtype in ACTIVATIONS:
        return _integer(tf, op, x, {**tensors, -1: subgraph.tensors[op.outputs[0]]}, is_delegated(op, subgraph))
    values = x[data]
    bias_values = x[bias] if op.code != "BATCH_MATMUL" and bias < len(x) else None
    if _is_dynamic(op, subgraph):
        result = _on_the_fly(tf, op, values, tensors[weight], bias_values, x, constants)
    elif ordered and op.code in ORDERED:
        result = ordered_sums(tf, op, values, x[weight], bias_values)
    else:
        return in_float(tf, op, x)
    return result if op.code == "BATCH_MATMUL" else fused(tf, op, result)


def in_float(tf: Any, op: Op, x: list[Any]) -> Any:
    """Return the output of a linear operator of float inputs `x`, None for absent ones."""
    data, weight, bias = _slots(op)
    result = product(tf, op, x[data], x[weight], x)
    if op.code == "BATCH_MATMUL":
        return result
    biased = result if bias >= len(x) or x[bias] is None else result + x[bias]
    return fused(tf, op, biased)


def _on_the_fly(tf: Any, op: Op, values: Any, weight: Tensor, bias: Any, x: list[Any], constants: Constants) -> Any:
    """Compute in dynamic range: exact sums of codes, times the input's scale and the weight's, plus the bias."""
    strided = op.code == "CONV_2D" and strides(op) != (1, 1)
    pointwise = op.code == "CONV_2D" and weight.shape[1:3] == (1, 1) and weight.dtype == "int8" and not strided
    per_row = op.code in ("FULLY_CONNECTED", "BATCH_MATMUL") or pointwise
    if op.code == "FULLY_CONNECTED" and not op.option("keepNumDims"):
        values = tf.reshape(values, [-1, weight.shape[1]])
    rounded, zero, scale = arithmetic.dynamic_codes(values, per_row, _runs_without_xnnpack(op, weight))
    codes = rounded - zero
    quantization = weight.affine
    if quantization.block_size and weight.dtype == "int4":
        result = in_blocks(tf, rounded, zero, weight, constants) * scale
        return result if bias is None else result + bias
    if quantization.block_size or op.code == "BATCH_MATMUL":
        result = product(tf, op, codes, constants.real(tf, weight), x) * scale
        return result if bias is None else result + bias
    kind = tf.float32 if _reach(op, weight) * 255.0 < EXACT else tf.float64
    total = product(tf, op, tf.cast(codes, kind), tf.cast(constants.stored(tf, weight), kind), x)
    scaled = tf.cast(tf.cast(total, tf.float32) * scale, tf.float64)
    result = scaled * np.asarray(quantization.scale, np.float64)  # float64 rounds once, as fused multiply-add
    return tf.cast(result if bias is None else result + tf.cast(bias, tf.float64), tf.float32)


def _runs_without_xnnpack(op: Op, weight: Tensor) -> bool:
    """Return whether TFLite's own kernel computes a dynamic-range operator: one with weights of 4 bits.

    XNNPACK takes fully connected layers of them alone, and only those whose rows fill whole bytes.
    """
    if weight.dtype != "int4" or weight.affine.block_size:
        return False
    return op.code != "FULLY_CONNECTED" or weight.shape[1] % 2 == 1


def _integer(tf: Any, op: Op, x: list[Any], tensors: Mapping[int, Tensor], delegated: bool) -> Any:
    data, weight, bias = _slots(op)
    scale, zero = affine_of(tensors[data])
    codes = x[data] - zero
    stored = tensors[weight]
    kernel = x[weight] - np.float32(stored.affine.zero_point[0])
    kind = tf.float32 if _is_exact(op, tensors[data], stored) else tf.float64
    total = product(tf, op, tf.cast(codes, kind), tf.cast(kernel, kind), x)
    if op.code != "BATCH_MATMUL" and bias < len(x) and x[bias] is not None:
        total = tf.cast(total, tf.float64) + tf.cast(x[bias], tf.float64)
    output = tensors[-1]
    out_scale, out_zero = affine_of(output)
    scales = (scale, np.asarray(stored.affine.scale, np.float32), out_scale)
    whole = rescaled(tf, total, scales, rounding(op, tensors, delegated)) + out_zero
    return tf.cast(tf.clip_by_value(whole, *fused_limits(op, output)), tf.float32)


def _is_exact(op: Op, data: Tensor, weight: Tensor) -> bool:
    """Return whether float32 holds every sum of products of codes."""
    reach = 255.0 if data.dtype in ("int8", "uint8") else 65535.0
    if weight.data is None:
        return weight.shape[-1] * reach * 255.0 < EXACT
    return _reach(op, weight) * reach < EXACT


def _reach(op: Op, weight: Tensor) -> float:
    """Return the largest sum of absolute codes that one output channel multiplies with."""
    if op.code == "BATCH_MATMUL":
        axes: tuple[int, ...] = (-1 if op.option("adjY") else -2,)
    else:
        axes = tuple(axis for axis in range(len(weight.shape)) if axis != facts_of(op.code).weights[0].channel)
    return float(np.abs(weight.constant.astype(np.float64)).sum(axis=axes).max())


def product(tf: Any, op: Op, x: Any, kernel: Any, inputs: list[Any]) -> Any:
    """Return the operator without bias and activation, in the type of `x`."""
    if op.code == "FULLY_CONNECTED":
        rows = x if op.option("keepNumDims") else tf.reshape(x, [-1, kernel.shape[1]])
        return tf.tensordot(rows, kernel, [[-1], [1]])
    if op.code == "BATCH_MATMUL":
        return tf.matmul(x, kernel, transpose_a=bool(op.option("adjX")), transpose_b=bool(op.option("adjY")))
    padding = padding_of(op)
    steps = strides(op)
    if op.code == "TRANSPOSE_CONV":
        return tf.nn.conv2d_transpose(x, tf.transpose(kernel, (1, 2, 0, 3)), inputs[0], steps, padding)
    rates = dilations(op)
    if op.code == "CONV_3D":
        every = [op.option("strideD"), *steps]
        return tf.nn.conv3d(x, kernel, [1, *every, 1], padding, dilations=[1, op.option("dilationDFactor"), *rates, 1])
    if op.code == "DEPTHWISE_CONV_2D":
        _, height, width, channels = kernel.shape
        shaped = tf.reshape(kernel, (height, width, x.shape[-1], channels // x.shape[-1]))
        return tf.nn.depthwise_conv2d(x, shaped, [1, *steps, 1], padding, dilations=rates)
    groups = x.shape[-1] // kernel.shape[-1]
    parts = zip(tf.split(x, groups, -1), tf.split(kernel, groups, 0), strict=True) if groups > 1 else [(x, kernel)]
    products = [
        tf.nn.conv2d(part, tf.transpose(own, (1, 2, 3, 0)), steps, padding, dilations=rates) for part, own in parts
    ]
    return tf.concat(products, -1) if groups > 1 else products[0]
