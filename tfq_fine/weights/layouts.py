"""The layout of a weight in the file: the block of values that share a scale, and the format of codes and scales."""

import numpy as np

from tfq_converters.graph import Float32Array, FloatArray
from tfq_converters.operators import WeightAxes
from tfq_converters.quantized import Form, WeightCodes
from tfq_converters.realize import kernel_reads_rows
from tfq_fine.numerics import affine
from tfq_fine.request import WeightSpec, block_shape


def layout(
    shape: tuple[int, ...], axes: WeightAxes, spec: WeightSpec, form: Form
) -> tuple[tuple[int, ...], affine.CodeFormat]:
    """Return (the block of values that share a scale, the format of codes and scales) of a weight of `shape`."""
    block = block_shape(spec.granularity, shape, axes.channel, axes.inputs, whole_window=form == "split")
    return block, codes_format(shape, spec, block, form)


def codes_format(shape: tuple[int, ...], spec: WeightSpec, block: tuple[int, ...], form: Form) -> affine.CodeFormat:
    """Return the format of the codes and scales of a weight of `shape`, whose blocks are `block`."""
    full_range = form == "dequantize" and spec.stored_bits < 8
    return affine.CodeFormat(spec.bits, spec.symmetric, _scale_type(shape, spec, block, form), full_range)


def _scale_type(shape: tuple[int, ...], spec: WeightSpec, block: tuple[int, ...], form: Form) -> affine.ScaleType:
    """Return the precision in which the file holds the scales."""
    if form == "lookup":
        blockwise = spec.stored_bits == 4 and block[1] < shape[1] and kernel_reads_rows(shape[1], block[1])
        return "bfloat16" if blockwise else "float32"
    varying = sum(size > length for size, length in zip(shape, block, strict=True))
    if form == "dequantize" and spec.symmetric and varying > 1:
        return "float16"
    return "bfloat16" if form == "blockwise" else "float32"


def one_scale_each(codes: WeightCodes, channel: int) -> WeightCodes:
    """Write the one scale of a tensor once for each channel."""
    shape = tuple(size if axis == channel else 1 for axis, size in enumerate(codes.codes.shape))
    block = tuple(1 if axis == channel else size for axis, size in enumerate(codes.codes.shape))
    scale, zero_point = (np.broadcast_to(a.reshape(-1)[0], shape).copy() for a in (codes.scale, codes.zero_point))
    return WeightCodes(codes.codes, scale, zero_point, codes.bits, block)


def with_scale_floor(
    data: Float32Array, codes: WeightCodes, floor: FloatArray, channel: int, form: affine.CodeFormat
) -> WeightCodes:
    """Raise every scale to at least `floor`, and encode anew where one was smaller.

    Blocks of zeros get no more than that: any scale holds them, and a bias is the finer the smaller it is.

    Args:
        data: the float32 weight, in its own shape.
        codes: its codes.
        floor: the smallest scales, [channels], or [1] for all channels.
        channel: the axis of the channels.
        form: the format of codes and scales.
    """
    lowest = floor.reshape([-1 if axis == channel else 1 for axis in range(codes.scale.ndim)])
    if codes.block[channel] > 1:
        size = [codes.block[channel] if axis == channel else 1 for axis in range(codes.scale.ndim)]
        lowest = affine.block_extent(lowest, tuple(size))[1]
    low, high = affine.block_extent(codes.codes, codes.block)
    scale = np.where((low == 0) & (high == 0), lowest, np.maximum(codes.scale, lowest)).astype(np.float32)
    if (scale == codes.scale).all():
        return codes
    return affine.encode(data, codes.block, scale, codes.zero_point, form)
