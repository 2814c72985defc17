"""XNNPACK's whole-number arithmetic on 8-bit codes: sums, products, other scales, sizes.

Ratios of scales become whole-number multipliers and a shift; the result is rounded by adding a half and cutting, so
that ties go up. Multipliers have 21 bits for ADD and SUB, which share a shift, and 8 bits after the point for QUANTIZE
and LEAKY_RELU. Products are rounded as those of linear operators. Ratios that it does not take: `fixed_kernels`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfq_converters.graph import Op, Tensor
from tfq_fine.emulation.codes import affine_of, fused_limits, is_quantized
from tfq_fine.emulation.resizing import resized, resized_short

SUMS = {"ADD": (1, 1), "SUB": (1, -1)}  # signs of the inputs
LIMITS = {  # the ratios that it takes
    "ADD": (2.0**-10, 2.0**8),
    "SUB": (2.0**-10, 2.0**8),
    "MUL": (2.0**-16, 2.0**8),
    "QUANTIZE": (2.0**-8, 2.0**7),
    "LEAKY_RELU": (2.0**-8, 2.0**7),
}
BITS, FRACTION = 20, 8


def in_whole_numbers(op: Op, tensors: Mapping[int, Tensor]) -> bool:
    """Return whether XNNPACK computes the operator so; `tensors` are its inputs, and its output at -1."""
    if op.code == "RESIZE_BILINEAR":
        return (
            tensors[-1].dtype in ("int8", "int16")
            and tensors[1].is_constant
            and -1 not in tensors[0].dynamic_shape[1:3]
        )
    if op.code not in LIMITS or not all(is_quantized(t) and t.dtype == "int8" for t in tensors.values()):
        return False
    least, most = LIMITS[op.code]
    return all(least <= abs(ratio) < most for ratio in _ratios(op, tensors))


def _ratios(op: Op, tensors: Mapping[int, Tensor]) -> list[np.float32]:
    """Return input scale to output scale, negative for what is subtracted; of LEAKY_RELU above and below 0."""
    scales = [affine_of(tensors[slot])[0] for slot in sorted(set(tensors) - {-1})]
    output = affine_of(tensors[-1])[0]
    if op.code == "LEAKY_RELU":
        return [scales[0] / output, scales[0] / output * np.float32(op.option("alpha"))]
    if op.code == "MUL":
        return [scales[0] * scales[1] / output]
    return [sign * scale / output for sign, scale in zip(SUMS.get(op.code, (1,)), scales, strict=True)]


def whole_numbers(tf: Any, op: Op, x: list[Any], tensors: Mapping[int, Tensor]) -> Any:
    """Return the codes of the output, of the inputs' codes; float64 holds all sums exactly."""
    if op.code == "RESIZE_BILINEAR":
        resize = resized if tensors[-1].dtype == "int8" else resized_short
        return tf.cast(resize(tf, op, tf.cast(x[0], tf.int64), tensors[1].data), tf.float32)
    ratios = np.array(_ratios(op, tensors), np.float64)
    shift = BITS + 1 - int(np.frexp(np.abs(ratios).max())[1]) if op.code in SUMS else FRACTION
    multipliers = np.rint(np.ldexp(ratios, shift))
    codes = [
        tf.cast(x[slot], tf.float64) - np.float64(affine_of(tensors[slot])[1]) for slot in sorted(set(tensors) - {-1})
    ]
    output = tensors[-1]
    if op.code == "MUL":
        product = tf.cast(tf.round(tf.cast(codes[0] * codes[1], tf.float32) * _ratios(op, tensors)[0]), tf.float64)
        return _placed(tf, op, product, output)
    if op.code == "LEAKY_RELU":
        codes = [tf.maximum(codes[0], 0), tf.minimum(codes[0], 0)]
    total = 0.5 * 2.0**shift
    for values, multiplier in zip(codes, multipliers, strict=True):
        total += values * multiplier
    return _placed(tf, op, tf.floor(total * 2.0**-shift), output)


def _placed(tf: Any, op: Op, found: Any, output: Tensor) -> Any:
    """Return the codes of whole numbers on the scale of the output."""
    return tf.cast(tf.clip_by_value(found + np.float64(affine_of(output)[1]), *fused_limits(op, output)), tf.float32)
