"""How far a kernel's result may be from the simulated one, and why.

- Integer kernels: one step of the output's scale, plus half a step of rounding, from the float operator, and what
  float32 is off by itself (`float_noise`); or what `kernel_arithmetic` computes as the kernel does.
- Dynamic-range kernels quantize their input on the fly to 8 bits, each runtime over its own group of values (a row, a
  pixel, an image; symmetric or not). The result must be within 2 % of the largest value of plain float arithmetic, or
  agree with one of these emulations to 1e-3 (one value in a thousand: to 10 %, where an input lies on a rounding
  boundary).
- Loops over dynamic-range kernels add such errors up over the steps: 10 %.
- Float arithmetic, also over dequantized weights: another order of summation and other approximations of exp: 1e-3 of
  the largest value.
"""

from collections.abc import Iterator

import numpy as np

from tfq_converters.graph import AnyArray, Float32Array, IntArray, Op
from tfq_converters.operators import facts_of
from tfq_converters.quantized import ActivationEncoding, OpEncoding, WeightCodes

FLOAT_TOLERANCE = 1e-3
DYNAMIC_TOLERANCE = 2e-2
LOOP_TOLERANCE = 1e-1
HALF = 0.51  # share of a step: the simulated value is not rounded; codes of 16 bits in float32 are good to 0.01


def allowed_steps(encoding: OpEncoding, form: ActivationEncoding) -> float:
    """Return how many steps of `form` an integer operator may be off.

    A split adds, in steps of its partial sums, one for each part and one for each addition.
    """
    if encoding.partial is None:
        return 1.0
    return 1.0 + (2 * parts_of_split(encoding) - 1) * encoding.partial.scale / form.scale


def parts_of_split(encoding: OpEncoding) -> int:
    """Return into how many operators a weight with blocks is split; 1 without blocks."""
    weight = encoding.weights.get(1)
    return max(weight.scale.shape[1:], default=1) if isinstance(weight, WeightCodes) else 1


def integer_difference(found: IntArray, expected: Float32Array, form: ActivationEncoding, steps: float) -> str:
    """Return what is wrong with codes `found`; "" when all are within `steps` of the float values `expected`.

    `expected` has the shape of the tensor, and `found` as many values. What is not a number in float is not compared:
    the fast RSQRT of 0, where integer kernels saturate.
    """
    limits = np.iinfo(form.dtype)
    exact = np.asarray(expected / np.float32(form.scale))  # an array at rank 0 too
    exact += np.float32(form.zero_point)
    np.clip(exact, limits.min, limits.max, out=exact)
    exact -= found.reshape(exact.shape)  # a runtime may give a number as a row of one
    away = float(np.fmax.reduce(np.abs(exact, out=exact), axis=None, initial=0.0))
    if not away <= steps + HALF:
        return f"{away:.1f} steps of its scale from the simulated value, {steps:g} allowed"
    return ""


def float_difference(found: AnyArray, expected: AnyArray, tolerance: float) -> str:
    """Return what is wrong with `found`; "" when within `tolerance` of `expected`, as a share of the largest value.

    Both are of one shape.
    """
    if found.dtype.kind not in "fc":
        different = float(np.mean(found != expected)) if found.size else 0.0
        return f"{different:.1%} of its values differ" if different > 0.01 else ""
    if (np.isnan(found) & ~np.isnan(expected)).any():
        return "NaN where the simulated value is a number"
    same = (found == expected) | np.isnan(expected)
    finite = np.abs(expected[np.isfinite(expected)])
    largest = max(float(finite.max(initial=0.0)), 1e-6)
    exact = np.complex128 if found.dtype.kind == "c" else np.float64
    with np.errstate(invalid="ignore"):  # infinity less itself, which is the same
        away = np.abs(np.where(same, 0.0, found.astype(exact) - expected))
    if away.size and not away.max() <= tolerance * largest:
        return f"{away.max():.3g} from the simulated value, where the largest value is {largest:.3g}"
    return ""


def agrees_with_emulation(found: Float32Array, expected: Float32Array) -> bool:
    """Return whether `found` is what an emulation computed, except where the input lies on a rounding boundary.

    Such a value may get the neighbouring code, which moves the few results that it enters: one in a thousand, or all
    channels at one place in a hundred. Both are float32 [n, ..., channels].
    """
    largest = max(float(np.abs(expected).max(initial=0.0)), 1e-6)
    away = np.abs(found.astype(np.float64) - expected)
    moved = away > FLOAT_TOLERANCE * largest
    few = not moved.size or np.mean(moved) <= 1e-3 or np.mean(moved.any(axis=-1)) <= 1e-2
    return bool(few and away.max(initial=0.0) <= LOOP_TOLERANCE * largest)


def repeats_steps(op: Op) -> bool:
    """Return whether `op` computes on what it computed before, so that differences add up."""
    facts = facts_of(op.code)
    return facts.control_flow or facts.recurrent


def float_tolerance(op: Op, encoding: OpEncoding, dynamic_bodies: bool) -> float:
    """Return the tolerance for an operator whose result is not in integers."""
    if repeats_steps(op):
        return LOOP_TOLERANCE if dynamic_bodies or encoding.mode == "dynamic" else FLOAT_TOLERANCE
    return DYNAMIC_TOLERANCE if encoding.mode == "dynamic" and not facts_of(op.code).table else FLOAT_TOLERANCE


def emulated_parts(values: Float32Array, encoding: OpEncoding, inputs: int) -> Iterator[Float32Array]:
    """Return `values` as the operators of a split see them: each part of the last axis is quantized by itself.

    Args:
        values: the input of the operator, float32 [n, ..., channels].
        encoding: the encoding of the operator.
        inputs: the inputs that one output channel sees; fewer than the last axis of a grouped convolution has.
    """
    weight = encoding.weights.get(1)
    if encoding.form != "split" or not isinstance(weight, WeightCodes):
        yield from emulated_inputs(values)
        return
    size = max(weight.block[1:])
    grouped = values.reshape(*values.shape[:-1], -1, inputs)
    starts = range(0, inputs, size)
    pieces = [grouped[..., k : k + size] for k in starts]
    by_piece = [list(emulated_inputs(piece.reshape(*values.shape[:-1], -1))) for piece in pieces]
    for parts in zip(*by_piece, strict=True):
        shaped = [part.reshape(piece.shape) for part, piece in zip(parts, pieces, strict=True)]
        yield np.concatenate(shaped, axis=-1).reshape(values.shape)


def emulated_inputs(values: Float32Array) -> Iterator[Float32Array]:
    """Return `values` as dynamic-range kernels see them: 8 bits per row and per image, with and without zero point.

    They are float32 [n, ..., channels], before and after. Asymmetric ones come with the zero point of the lower end,
    and with that of the end whose error is smaller, which XNNPACK takes: they clip another end of the range. XNNPACK
    rounds halves to even, the kernels of TFLite round them away from 0: pixels are often exactly between two codes.
    """
    per_row, per_image = (values.ndim - 1,), tuple(range(1, values.ndim))
    for axes in dict.fromkeys((per_row, per_image, tuple(range(values.ndim)))):
        low = np.minimum(values.min(axis=axes, keepdims=True), 0.0)
        high = np.maximum(values.max(axis=axes, keepdims=True), 0.0)
        scale = np.where(high > low, (high - low) / 255, 1.0)
        zero = np.clip(np.rint(-128 - low / scale), -128, 127)
        yield (scale * (np.clip(np.rint(values / scale) + zero, -128, 127) - zero)).astype(np.float32)
        inverse = np.where(high > low, np.float32(255) / np.where(high > low, high - low, 1), 1).astype(np.float32)
        least, most = low * inverse, high * inverse
        zero = np.where((-128 + least) + (127 + most) > 0, -128 - least, 127 - most)
        zero = np.clip(np.rint(zero), -128, 127)
        yield ((np.clip(np.rint(values * inverse) + zero, -128, 127) - zero) / inverse).astype(np.float32)
        factor = (np.float32(1) / scale).astype(np.float32)
        for zero in (np.rint(-128 - low / scale), np.rint(127 - high / scale)):
            codes = np.clip(_half_away(zero.astype(np.float32) + values * factor), -128, 127)
            yield (scale * (codes - zero)).astype(np.float32)
        scale = np.where(high > low, np.maximum(high, -low) / 127, 1.0)
        yield (scale * np.rint(values / scale)).astype(np.float32)
        yield (scale * _half_away(values * (np.float32(1) / scale).astype(np.float32))).astype(np.float32)


def _half_away(values: Float32Array) -> Float32Array:
    """Return whole numbers, halves away from 0, as `TfLiteRound` does."""
    return np.trunc(values + np.copysign(np.float32(0.5), values))
