"""What XNNPACK computes of 8-bit codes in whole numbers, without a product of floats: sums, and other scales.

Ratios of scales become whole-number multipliers and a shift; the result is rounded by adding a half and cutting, so
that ties go up. Of 21 bits for ADD and SUB, which share a shift; of 8 bits behind the point for QUANTIZE.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfq_converters.graph import Op, Tensor
from tfq_fine.layers.twin.codes import affine_of, fused_limits, is_quantized

SUMS = {"ADD": (1, 1), "SUB": (1, -1)}  # signs of the inputs
LIMITS = {"ADD": (2.0**-10, 2.0**8), "SUB": (2.0**-10, 2.0**8), "QUANTIZE": (2.0**-8, 2.0**7)}  # of ratios it takes
BITS, FRACTION = 20, 8


def in_whole_numbers(op: Op, tensors: Mapping[int, Tensor]) -> bool:
    """Whether XNNPACK computes the operator so; `tensors` are its inputs, and its output at -1."""
    if op.code not in LIMITS or not all(is_quantized(t) and t.dtype == "int8" for t in tensors.values()):
        return False
    least, most = LIMITS[op.code]
    return all(least <= abs(ratio) < most for ratio in _ratios(op, tensors))


def _ratios(op: Op, tensors: Mapping[int, Tensor]) -> list[np.float32]:
    """Input scale to output scale, negative for what is taken away."""
    scales = [affine_of(tensors[slot])[0] for slot in sorted(set(tensors) - {-1})]
    output = affine_of(tensors[-1])[0]
    return [sign * scale / output for sign, scale in zip(SUMS.get(op.code, (1,)), scales, strict=True)]


def whole_numbers(tf: Any, op: Op, x: list[Any], tensors: Mapping[int, Tensor]) -> Any:
    """The codes of the output, of the inputs' codes; float64 holds all sums exactly."""
    ratios = np.array(_ratios(op, tensors), np.float64)
    shift = BITS + 1 - int(np.frexp(np.abs(ratios).max())[1]) if op.code in SUMS else FRACTION
    multipliers = np.rint(np.ldexp(ratios, shift))
    total = 0.5 * 2.0**shift
    for slot, multiplier in enumerate(multipliers):
        total += (tf.cast(x[slot], tf.float64) - np.float64(affine_of(tensors[slot])[1])) * multiplier
    output = tensors[-1]
    found = tf.floor(total * 2.0**-shift) + np.float64(affine_of(output)[1])
    return tf.cast(tf.clip_by_value(found, *fused_limits(op, output)), tf.float32)
