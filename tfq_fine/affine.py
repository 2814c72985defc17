"""From a range to a scale and a zero point, from values to codes: the only rounding in the library.

Symmetric: value = scale * code with codes in [-(2^(b-1) - 1), 2^(b-1) - 1] (narrow range: the hybrid kernels compute
garbage on a single most negative code). Asymmetric: value = scale * (code - zero_point) over the full range, the range
stretched to hold 0 so that padding and ReLU are exact (Jacob et al. 2018, arXiv 1712.05877, section 2.1).
"""

import numpy as np

from tfq_converters.quantized import ActivationEncoding, WeightCodes

TINY = float(np.finfo(np.float32).tiny)  # the smallest normal scale; kernels divide by scales


def symmetric_scale(absmax: np.ndarray | float, bits: int) -> np.ndarray:
    """Scales, float32, that put `absmax` on the largest code. 1 for a block of zeros; never 0 or subnormal."""
    scale = np.asarray(absmax, np.float64) / (2 ** (bits - 1) - 1)
    return np.where(scale < TINY, 1.0, scale).astype(np.float32)


def asymmetric_scale(low: np.ndarray | float, high: np.ndarray | float, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Scales (float32) and zero points (int64) of the signed codes that cover [min(low, 0), max(high, 0)]."""
    least, most = np.minimum(np.asarray(low, np.float64), 0.0), np.maximum(np.asarray(high, np.float64), 0.0)
    scale = (most - least) / (2**bits - 1)
    scale = np.where(scale < TINY, 1.0, scale).astype(np.float32)
    minimum = -(2 ** (bits - 1))
    zero_point = np.clip(np.rint(minimum - least / scale), minimum, minimum + 2**bits - 1)
    return scale, zero_point.astype(np.int64)


def block_extent(values: np.ndarray, block: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(minimum, maximum) of each block; each of shape `values.shape / block`."""
    split = values.reshape([n for size, b in zip(values.shape, block, strict=True) for n in (size // b, b)])
    within = tuple(range(1, split.ndim, 2))
    return split.min(axis=within), split.max(axis=within)


def encode(values: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, bits: int, narrow: bool) -> WeightCodes:
    """Nearest codes of `values`, saturating. `scale` and `zero_point` have one entry per block."""
    full_scale, full_zero = scale.astype(np.float32), zero_point
    for axis, (size, blocks) in enumerate(zip(values.shape, scale.shape, strict=True)):
        full_scale = np.repeat(full_scale, size // blocks, axis) if blocks not in (1, size) else full_scale
        full_zero = np.repeat(full_zero, size // blocks, axis) if blocks not in (1, size) else full_zero
    codes = np.rint(values / full_scale) + full_zero
    lowest = -(2 ** (bits - 1)) + narrow
    codes = np.clip(codes, lowest, 2 ** (bits - 1) - 1)
    return WeightCodes(codes.astype(np.int8 if bits <= 8 else f"int{bits}"), scale, zero_point, bits)


def encode_weight(values: np.ndarray, block: tuple[int, ...], bits: int, symmetric: bool) -> WeightCodes:
    """Quantize to the full range of each block, rounding to nearest.

    Args:
        values: float32 weight.
        block: shape of the block of values that share one scale.
        bits: 8, 4 or 2.
        symmetric: zero points are 0 and the most negative code is unused.

    Returns:
        Codes with |scale * (code - zero_point) - value| <= scale / 2 for every value.
    """
    low, high = block_extent(values, block)
    if symmetric:
        scale = symmetric_scale(np.maximum(-low, high), bits)
        return encode(values, scale, np.zeros(scale.shape, np.int64), bits, narrow=True)
    scale, zero_point = asymmetric_scale(low, high, bits)
    return encode(values, scale, zero_point, bits, narrow=False)


def encode_bias(bias: np.ndarray, input_scale: float, weight_scale: np.ndarray, bits: int) -> WeightCodes:
    """Bias codes at scale input_scale * weight_scale, as the integer kernels add them to the accumulator.

    Args:
        bias: float32 [C].
        input_scale: scale of the activation input.
        weight_scale: [C] or [1].
        bits: 32 (int8 activations) or 64 (int16 activations).
    """
    scale = np.broadcast_to(np.float64(input_scale) * weight_scale.astype(np.float64), weight_scale.shape).copy()
    limit = 2.0 ** (min(bits, 40) - 1)  # int16 kernels accumulate in 40 bits or more; never saturates in practice
    codes = np.clip(np.rint(bias.astype(np.float64) / scale), -limit, limit - 1)
    return WeightCodes(codes.astype(f"int{bits}"), scale, np.zeros(scale.shape, np.int64), bits)


def activation_encoding(low: float, high: float, bits: int) -> ActivationEncoding:
    """The encoding of an activation whose calibrated range is [low, high]."""
    if bits == 16:
        scale = symmetric_scale(max(-low, high), 16)
        return ActivationEncoding("int16", float(scale), 0)
    scale, zero_point = asymmetric_scale(low, high, bits)
    return ActivationEncoding("int8", float(scale), int(zero_point))
