"""Ranges to scales and zero points, values to codes: the only rounding in the library.

Symmetric: value = scale * code with codes in [-(2^(b-1) - 1), 2^(b-1) - 1] (narrow range: the hybrid kernels compute
garbage on a single most negative code). Asymmetric: value = scale * (code - zero_point) over the full range, the range
stretched to hold 0 so that padding and ReLU are exact (Jacob et al. 2018, arXiv 1712.05877, section 2.1).

All functions see a granularity only as the shape of the block of values that share one scale. A block shape need not
divide a weight: the last block along an axis is shorter then.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from tfq_converters.graph import Float32Array, Float64Array, FloatArray, Int64Array
from tfq_converters.quantized import ActivationEncoding, WeightCodes
from tfq_fine.request import stored_bits

SYMMETRIC = 1e-3  # share of the larger end by which the ends of a symmetric range may differ: an eighth of a step
TINY = float(np.finfo(np.float32).tiny)  # the smallest normal scale; kernels divide by scales
# The least scale of activations: kernels count the bound of a RELU6 in steps of 32 bits, and the reference kernel of
# SOFTMAX ends the process at scales of 2^-26 and below.
LEAST_STEP = 2.0**-25
SMALLEST_HALF, LARGEST_HALF = 2.0**-24, 65504.0  # the limits of float16
HALF_SCALES = (2.0**-16, 2.0**15)  # range in which float16 holds scales of bfloat16's 8 bits exactly
SLICE = 2**22  # values that are encoded at a time, which bounds the memory
ScaleType = Literal["float32", "bfloat16", "float16"]


D = TypeVar("D", bound=np.number[Any])


@dataclass(frozen=True)
class CodeFormat:
    """Which codes and scales a weight may have."""

    bits: int  # bits that codes use; the type that stores them may be larger, `specs.stored_bits`
    symmetric: bool = True  # zero points are 0, and the most negative code is unused unless `full_range`
    scales: ScaleType = "float32"  # to which scales are rounded before codes are chosen, as the file holds them
    full_range: bool = False  # the most negative code is used too, by algorithms that choose ranges

    @property
    def signed_scales(self) -> bool:
        """Whether scales may be negative, so that the one code more can be at either end: where a MUL applies them."""
        return self.full_range and self.scales == "float16"

    @property
    def stored_bits(self) -> int:
        """Bits of the type that holds the codes: 8 for codes of 5, 6 or 7 bits."""
        return stored_bits(self.bits)

    @property
    def lowest(self) -> int:
        """The most negative code in use."""
        return -(1 << (self.bits - 1)) + (self.symmetric and not self.full_range)

    @property
    def highest(self) -> int:
        """The largest code."""
        return (1 << (self.bits - 1)) - 1


def symmetric_scale(absmax: FloatArray | float, bits: int) -> Float32Array:
    """Return float32 scales that put `absmax` on the largest code; 1 for blocks of zeros, never 0 or subnormal."""
    scale = np.asarray(absmax, np.float64) / (2 ** (bits - 1) - 1)
    return np.where(scale < TINY, 1.0, scale).astype(np.float32)


def asymmetric_scale(low: FloatArray | float, high: FloatArray | float, bits: int) -> tuple[Float32Array, Int64Array]:
    """Return scales (float32) and zero points (int64) of the signed codes that cover [min(low, 0), max(high, 0)]."""
    least, most = np.minimum(np.asarray(low, np.float64), 0.0), np.maximum(np.asarray(high, np.float64), 0.0)
    scale = (most - least) / (2**bits - 1)
    scale = np.where(scale < TINY, 1.0, scale).astype(np.float32)
    minimum = -(2 ** (bits - 1))
    zero_point = np.clip(np.rint(minimum - least / scale), minimum, minimum + 2**bits - 1)
    return scale, zero_point.astype(np.int64)


def activation_scale(low: FloatArray | float, high: FloatArray | float, bits: int) -> tuple[Float32Array, Int64Array]:
    """Do `asymmetric_scale`, but a range symmetric about 0 gets zero point 0 and no end is clipped.

    The other's zero point would lie between two codes there, so that one end loses half a step and, what is worse,
    each of the 256 pixels of images in [-1, 1] lies half a step from its code. Scales are at least `LEAST_STEP`.
    """
    scale, zero_point = asymmetric_scale(low, high, bits)
    absmax = np.maximum(-np.asarray(low, np.float64), np.asarray(high, np.float64))
    symmetric = np.abs(np.add(low, high, dtype=np.float64)) < SYMMETRIC * absmax
    steps = np.where(symmetric, symmetric_scale(absmax, bits), scale)
    return np.maximum(steps, np.float32(LEAST_STEP)), np.where(symmetric, 0, zero_point)


def bfloat16(scale: Float32Array) -> Float32Array:
    """Round scales, float32, to the nearest value of 8 significant bits that float16 holds exactly.

    >>> bfloat16(np.array([1.0, 1.004, 0.0101], np.float32)).tolist()
    [1.0, 1.0078125, 0.01007080078125]
    """
    bounded = np.clip(scale.astype(np.float32), *HALF_SCALES)
    return bounded.astype(ml_dtypes.bfloat16).astype(np.float32)


def float16(scale: Float32Array) -> Float32Array:
    """Return `scale`, float32 of any shape, rounded to the nearest float16 of its sign, which is not 0."""
    bounded = np.copysign(np.clip(np.abs(scale), SMALLEST_HALF, LARGEST_HALF), scale)
    return np.asarray(bounded.astype(np.float16).astype(np.float32))


ROUNDED_SCALES: dict[ScaleType, Callable[[Float32Array], Float32Array]] = {
    "float32": lambda scale: scale,
    "bfloat16": bfloat16,
    "float16": float16,
}


def weight_scale(low: FloatArray, high: FloatArray, form: CodeFormat) -> tuple[Float32Array, Int64Array]:
    """Return scales (float32) and zero points (int64) of blocks of values in [low, high].

    A symmetric range that is turned round, low above high, has a negative scale: `signed_scales`.
    """
    if form.symmetric:
        scale = ROUNDED_SCALES[form.scales](symmetric_scale(np.maximum(np.abs(low), np.abs(high)), form.bits))
        return np.where(low > high, -scale, scale), np.zeros(scale.shape, np.int64)
    return asymmetric_scale(low, high, form.bits)


def block_indices(shape: tuple[int, ...], block: tuple[int, ...]) -> Int64Array:
    """Return, for every value of an array of `shape`, the flat index of its block: int64 of that shape.

    >>> block_indices((2, 5), (1, 2)).tolist()
    [[0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
    """
    grid = tuple(-(-size // length) for size, length in zip(shape, block, strict=True))
    index = np.arange(math.prod(grid)).reshape(grid)
    for axis, (size, length) in enumerate(zip(shape, block, strict=True)):
        index = index.repeat(length, axis).take(np.arange(size), axis)
    return index


def split(values: NDArray[D], block: tuple[int, ...]) -> NDArray[D]:
    """Return `values` as [blocks, block, blocks, block, ...], two axes per axis; short blocks are padded with zeros.

    >>> split(np.arange(5), (2,)).tolist()
    [[0, 1], [2, 3], [4, 0]]
    """
    missing = [(0, -size % b) for size, b in zip(values.shape, block, strict=True)]
    if any(after for _, after in missing):
        values = np.pad(values, missing)
    return values.reshape([n for size, b in zip(values.shape, block, strict=True) for n in (size // b, b)])


def join(blocks: NDArray[D], shape: tuple[int, ...]) -> NDArray[D]:
    """Return the inverse of `split` for values of `shape`."""
    whole = blocks.reshape([blocks.shape[axis] * blocks.shape[axis + 1] for axis in range(0, blocks.ndim, 2)])
    return np.ascontiguousarray(whole[tuple(slice(size) for size in shape)])


def per_block(values: NDArray[D]) -> NDArray[D]:
    """Return one value per block, as an array that broadcasts against what `split` returns."""
    return values.reshape([n for size in values.shape for n in (size, 1)])


def block_extent(values: NDArray[D], block: tuple[int, ...]) -> tuple[NDArray[D], NDArray[D]]:
    """Return (minimum, maximum) of each block and 0; each of shape ceil(values.shape / block)."""
    blocks = split(values, block)
    within = tuple(range(1, blocks.ndim, 2))
    return np.minimum(blocks.min(axis=within), 0), np.maximum(blocks.max(axis=within), 0)


def encode(
    values: FloatArray,
    block: tuple[int, ...],
    scale: FloatArray,
    zero_point: Int64Array,
    form: CodeFormat,
) -> WeightCodes:
    """Return the nearest codes of `values`, saturating; `scale` and `zero_point` have one entry per block."""
    codes = np.empty(values.shape, np.int8 if form.bits <= 8 else f"int{form.stored_bits}")
    for rows, groups in _slices(values.shape, block):
        codes[rows] = _codes(values[rows], block, scale[groups].astype(np.float32), zero_point[groups], form)
    return WeightCodes(codes, scale, zero_point, form.stored_bits, block)


def _codes(
    values: FloatArray,
    block: tuple[int, ...],
    scale: Float32Array,
    zero_point: Int64Array,
    form: CodeFormat,
) -> FloatArray:
    blocks = split(values, block) / per_block(scale)
    np.rint(blocks, out=blocks)
    if zero_point.any():
        blocks += per_block(zero_point).astype(blocks.dtype)
    np.clip(blocks, form.lowest, form.highest, out=blocks)
    return join(blocks, values.shape)


def _slices(shape: tuple[int, ...], block: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Yield whole blocks of rows (axis 0) of at most `SLICE` values, and the rows of scales that belong to them."""
    per_row = max(1, math.prod(shape[1:]))
    blocks = max(1, SLICE // (per_row * block[0]))
    for start in range(0, -(-shape[0] // block[0]), blocks):
        yield slice(start * block[0], (start + blocks) * block[0]), slice(start, start + blocks)


def squared_error(values: Float32Array, codes: WeightCodes, importance: Float32Array | None = None) -> Float64Array:
    """Return the sum of squared errors in every block, float64, of the shape of the scales.

    Args:
        values: float32 weight.
        codes: what is stored in its place.
        importance: what each squared error is multiplied with, float32 of the weight's shape; None for 1.
    """
    error = np.square(codes.dequantize() - values)
    if importance is not None:
        error *= importance
    blocks = split(error, codes.block)
    summed: Float64Array = blocks.sum(axis=tuple(range(1, blocks.ndim, 2)), dtype=np.float64)
    return summed


def encode_weight(values: Float32Array, block: tuple[int, ...], form: CodeFormat) -> WeightCodes:
    """Quantize to the full range of each block, rounding to nearest.

    Args:
        values: float32 weight.
        block: shape of the block of values that share one scale.
        form: which codes and scales there are.

    Returns:
        Codes with |scale * (code - zero_point) - value| <= scale / 2 for every value.
    """
    return encode(values, block, *weight_scale(*block_extent(values, block), form), form)


def extent_shares(scale: Float32Array, values: Float32Array, block: tuple[int, ...], form: CodeFormat) -> Float32Array:
    """Return the share of the extent of each block whose `weight_scale` is `scale`, bit for bit where it is rounded."""
    whole, _ = weight_scale(*block_extent(values, block), replace(form, scales="float32"))
    return (scale / whole).astype(np.float32)


def encode_bias(bias: Float32Array, input_scale: float, weight_scale: Float32Array, bits: int) -> WeightCodes:
    """Return bias codes at scale input_scale * weight_scale, as integer kernels add them to the accumulator.

    Args:
        bias: float32 [C].
        input_scale: scale of the activation input.
        weight_scale: [C] or [1].
        bits: 32 (int8 activations) or 64 (int16 activations).
    """
    scale = np.broadcast_to(np.float64(input_scale) * weight_scale.astype(np.float64), weight_scale.shape).copy()
    limit = 2.0 ** (min(bits, 40) - 1)  # int16 kernels accumulate in 40 bits or more; never saturates in practice
    codes = np.clip(np.rint(bias.astype(np.float64) / scale), -limit, limit - 1)
    block = (-(-bias.size // scale.size),)
    return WeightCodes(codes.astype(f"int{bits}"), scale, np.zeros(scale.shape, np.int64), bits, block)


def activation_encoding(low: float, high: float, bits: int) -> ActivationEncoding:
    """Return the encoding of an activation whose calibrated range is [low, high].

    A range so narrow that kernels could not compute in its steps (`LEAST_STEP`) is widened.
    """
    if bits == 16:
        scale = symmetric_scale(max(-low, high), 16)
        return ActivationEncoding("int16", max(float(scale), LEAST_STEP), 0)
    scale, zero_point = activation_scale(low, high, bits)
    return ActivationEncoding("int8", float(scale), int(zero_point))


def round_trip(values: Float32Array, low: FloatArray, high: FloatArray, bits: int) -> Float32Array:
    """Return `values`, [n], after encoding and decoding in the ranges [low, high], each [k]: [k, n]."""
    if bits == 16:
        scale, zero_point = symmetric_scale(np.maximum(-low, high), 16), np.zeros(len(low), np.int64)
        lowest = -(2**15) + 1
    else:
        scale, zero_point = activation_scale(low, high, bits)
        lowest = -(2 ** (bits - 1))
    shift, step = zero_point[:, None].astype(np.float32), scale[:, None]
    codes = values[None] / step
    np.rint(codes, out=codes)
    codes += shift
    np.clip(codes, lowest, 2 ** (bits - 1) - 1, out=codes)
    codes -= shift
    codes *= step
    return np.asarray(codes)
