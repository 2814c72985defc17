"""int16 functions of one value as the kernels look them up: 513 anchors, straight lines between them.

`LUTPopulate` and `LUTLookup` of TFLite for RSQRT, LOG, EXP, GELU and the exponentials of SOFTMAX; an older table of the
logistic function, of 256 steps, for LOGISTIC and TANH. Codes are int64 arrays without their zero point, which is 0.
"""

from collections.abc import Callable
from math import erf
from typing import Any

import numpy as np

from tfq_converters.graph import Float32Array, FloatArray, Int64Array
from tfq_converters.kernels.arithmetic.rescaling import shifted, twice

STEPS = 512
LEAST, MOST = -(2**15), 2**15 - 1
# Steps at which the kernel's table of the logistic function is one above the nearest code (measured).
ABOVE = (
    *(4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40, 41, 43, 44, 45, 46),
    *(49, 50, 54, 62, 63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135, 255),
)
SIGMOID = np.rint(2**16 / (1 + np.exp(-np.arange(256) / 24))).astype(np.int64) + np.isin(np.arange(256), ABOVE)


def anchors(
    function: Callable[[Any], Any], scale: Any, zero: int, output_scale: Any, kind: type[np.floating[Any]] = np.float32
) -> Int64Array:
    """Return the table [513] of a real function, each anchor moved by half the error in the middle after it."""
    first, last = (kind(scale) * kind(code - zero) for code in (LEAST, MOST))
    step = (last - first) / kind(STEPS)
    inverse = kind(2**16) / (kind(output_scale) * kind(MOST) - kind(output_scale) * kind(LEAST))
    at = first + np.arange(STEPS).astype(kind) * step
    here, middle = function(at), function(at + step / kind(2))
    after = function(first + np.arange(1, STEPS + 1).astype(kind) * step)
    sample = _nearest(here * inverse)
    off = _nearest((after * inverse + sample) / kind(2)) - _nearest(middle * inverse)
    table = np.append(sample - _nearest(off / kind(2)), _nearest(function(last) * inverse))
    result: Int64Array = np.clip(table, LEAST, MOST).astype(np.int64)
    return result


def _nearest(values: Any) -> Any:
    """Round to nearest, halves away from 0, as C does."""
    return np.trunc(values + np.copysign(np.asarray(values).dtype.type(0.5), values))


def looked_up(table: Int64Array, codes: Int64Array) -> Int64Array:
    """Return the table [513] at codes of 16 bits, of their shape, with straight lines between its anchors."""
    index = (codes >> 7) + STEPS // 2
    base: Int64Array = table[index]
    result: Int64Array = base + shifted((table[index + 1] - base) * (codes & 0x7F), 7)
    return result


def exponential(x: FloatArray, scale: np.float32) -> FloatArray:
    """Return exp(x), of the shape of x; `scale` is the output's, which only other functions read."""
    result: FloatArray = np.exp(x)
    return result


def logarithm(x: FloatArray, scale: np.float32) -> Float32Array:
    """Return log(x), of the shape of x; the lowest code where there is none."""
    return np.where(x <= 0, np.float32(LEAST) * scale, np.log(np.maximum(x, np.float32(1e-38)))).astype(np.float32)


def reciprocal_root(x: FloatArray, scale: np.float32) -> Float32Array:
    """Return 1 / sqrt(x), of the shape of x; the highest code where there is none."""
    return np.where(x <= 0, np.float32(MOST) * scale, 1 / np.sqrt(np.maximum(x, np.float32(1e-38)))).astype(np.float32)


def gelu(approximate: bool) -> Callable[[FloatArray, np.float32], FloatArray]:
    """Return GELU, computed with tanh or with the error function.

    The function takes and returns values of any one shape.
    """

    def bent(x: FloatArray) -> FloatArray:
        if approximate:
            return np.asarray(np.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)))
        return np.asarray(np.vectorize(erf)(x * np.float32(np.sqrt(0.5))))

    return lambda x, scale: np.asarray(np.float32(0.5) * x * (1 + bent(x)), np.float32)


def tabled(
    function: Callable[[FloatArray, np.float32], FloatArray],
    codes: Int64Array,
    scale: float,
    output_scale: float,
) -> Int64Array:
    """Return a function of (real values, scale of the output) at codes of `scale`, of their shape."""
    output = np.float32(output_scale)
    with np.errstate(all="ignore"):
        table = anchors(lambda values: function(values, output), np.float32(scale), 0, output)
    return looked_up(table, codes)


def sigmoid_input(codes: Int64Array, scale: float) -> Int64Array:
    """Return codes of any shape on a scale of 1 / (3 * 4096)."""
    multiplier, shift = float(np.float32(scale)) * 4096.0 * 3.0, 0
    while multiplier <= 32767.0 / 2.0 and shift <= 30:
        multiplier, shift = multiplier * 2.0, shift + 1
    return shifted(codes * int(multiplier), shift)


def logistic(codes: Int64Array, scale: float) -> Int64Array:
    """Return the logistic function of codes of any shape, on a scale of 2^-15."""
    moved = sigmoid_input(codes, scale)
    result = _between(np.abs(moved), 9)
    return np.where(moved >= 0, result + (1 << 9), (1 << 25) - result + (1 << 9) - 1) >> 10


def tanh(codes: Int64Array, scale: float) -> Int64Array:
    """Return the hyperbolic tangent of codes of any shape, on a scale of 2^-15."""
    moved = sigmoid_input(codes, scale)
    result = _between(np.abs(moved), 8)
    return np.where(moved >= 0, result - (1 << 23) + (1 << 7), -result + (1 << 23) + (1 << 7) - 1) >> 8


def _between(magnitude: Int64Array, bits: int) -> Int64Array:
    """Return the logistic function with 16 + `bits` bits after the point, for magnitudes `bits` bits after a step."""
    index = magnitude >> bits
    inside = np.minimum(index, STEPS // 2 - 2)
    base, after = SIGMOID[inside], SIGMOID[inside + 1]
    line = base * (1 << bits) + (magnitude & ((1 << bits) - 1)) * (after - base)
    full = (0x7FFF << 10) if bits == 9 else (0xFFFF << 8)
    return np.where(index >= STEPS // 2 - 1, full, line)


def softmax(codes: Int64Array, scale: float, beta: float) -> Int64Array:
    """Return SOFTMAX along the last axis of codes [..., C], on a scale of 2^-15."""
    below = codes - codes.max(axis=-1, keepdims=True)
    ratio = np.float64(np.float32(scale)) * np.float64(beta) / (10.0 / 65535.0)
    difference = np.clip(twice(below, ratio) + MOST, LEAST, MOST)
    exponentials = looked_up(EXPONENTIALS, difference)
    total = exponentials.sum(axis=-1, keepdims=True)
    right = np.frexp(total.astype(np.float64))[1].astype(np.int64) - 1  # floor(log2(total))
    one_to_two = shifted(total << (30 - right), 14)
    reciprocal = looked_up(RECIPROCALS, np.clip(one_to_two - (2**15 + 2**16), LEAST, MOST))
    result: Int64Array = np.clip((exponentials * reciprocal + (np.int64(1) << (right - 1))) >> right, 0, MOST)
    return result


EXPONENTIALS = anchors(np.exp, 10.0 / 65535.0, MOST, 2.0 / 65535.0, np.float64)
RECIPROCALS = anchors(lambda x: 1.0 / (1.0 + x), 1.0 / 65535.0, LEAST, 2.0 / 65535.0, np.float64)
