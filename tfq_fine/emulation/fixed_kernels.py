"""Integer operators without weights that XNNPACK does not take, as the other kernels compute them on codes.

Each row: (TensorFlow, operator, codes of the inputs without their zero points in int64, tensors by slot with the output
at -1) -> whole numbers on the scale of the output, without its zero point.
"""

from collections.abc import Callable, Mapping
from math import erf
from typing import Any

import numpy as np

from tfq_converters.graph import Op, Tensor
from tfq_converters.kernels.arithmetic import anchors, fixed_point
from tfq_fine.emulation.codes import affine_of, fused_limits, is_quantized
from tfq_fine.emulation.fixed_point import once, twice, twice_by
from tfq_fine.emulation.hard_swish import hard_swish
from tfq_fine.emulation.int16_tables import logistic, looked_up, sigmoid_input, softmax, tanh

Tensors = Mapping[int, Tensor]
Row = Callable[[Any, Op, list[Any], Tensors], Any]
Multiply = Callable[[Any, Any, Any], Any]
SQUARED_SHIFT = 7


def fixed(op: Op, tensors: Tensors) -> bool:
    """Return whether there is a row for the operator and its types; `tensors` are its inputs, and its output at -1."""
    dtype, coded = tensors[-1].dtype, _coded(tensors).values()
    same = op.code == "QUANTIZE" or all(tensor.dtype == dtype for tensor in coded)
    if (op.code, dtype) not in ROWS or not same or not all(is_quantized(tensor) for tensor in coded):
        return False
    return op.code != "MEAN" or (tensors[1].is_constant and _count(tensors) > 0)


def fixed_codes(tf: Any, op: Op, x: list[Any], tensors: Tensors) -> Any:
    """Return the codes of the output, of the inputs' codes."""
    output = tensors[-1]
    zeros = {slot: np.int64(affine_of(tensor)[1]) for slot, tensor in _coded(tensors).items()}
    values = [tf.cast(x[slot], tf.int64) - zeros[slot] for slot in sorted(set(zeros) - {-1})]
    whole = tf.cast(ROWS[op.code, output.dtype](tf, op, values, tensors), tf.float64)
    return tf.cast(tf.clip_by_value(whole + np.float64(zeros[-1]), *fused_limits(op, output)), tf.float32)


def _coded(tensors: Tensors) -> Tensors:
    """Return all but the axes of a reduction."""
    return {slot: tensor for slot, tensor in tensors.items() if tensor.dtype != "int32"}


def reduced_axes(tensors: Tensors) -> list[int]:
    """Return the axes of a reduction, counted from the first."""
    return [int(axis) % len(tensors[0].shape) for axis in tensors[1].constant.reshape(-1)]


def _count(tensors: Tensors) -> int:
    """Return how many values a reduction combines into one; 0 or less when the file does not know."""
    sizes = [tensors[0].dynamic_shape[axis] for axis in reduced_axes(tensors)]
    return min(sizes, default=1) if min(sizes, default=1) < 1 else int(np.prod(sizes))


def _scale(tensors: Tensors, slot: int) -> np.float32:
    return affine_of(tensors[slot])[0]


def _squared_difference(tf: Any, op: Op, x: list[Any], tensors: Tensors) -> Any:
    """Return both on twice the larger scale, 7 bits up; the square is exact."""
    twice_largest = np.float64(2 * max(_scale(tensors, 0), _scale(tensors, 1)))
    first, second = (
        twice(tf, x[slot] * 2**SQUARED_SHIFT, np.float64(_scale(tensors, slot)) / twice_largest) for slot in (0, 1)
    )
    ratio = twice_largest**2 / np.float64(np.float32(2 ** (2 * SQUARED_SHIFT)) * _scale(tensors, -1))
    return twice(tf, tf.square(first - second), ratio)


def _sum(sign: int, shift: int, whole_rows: Multiply = twice) -> Row:
    """Compute ADD or SUB on twice the larger scale, `shift` bits up; `whole_rows` does so for equal shapes."""

    def applied(tf: Any, op: Op, x: list[Any], tensors: Tensors) -> Any:
        twice_largest = np.float64(2 * max(_scale(tensors, 0), _scale(tensors, 1)))
        onto = whole_rows if tensors[0].shape == tensors[1].shape else twice
        first, second = (
            onto(tf, x[slot] * 2**shift, np.float64(_scale(tensors, slot)) / twice_largest) for slot in (0, 1)
        )
        return twice(tf, first + sign * second, twice_largest / np.float64(np.float32(2**shift) * _scale(tensors, -1)))

    return applied


def _product(tf: Any, op: Op, x: list[Any], tensors: Tensors) -> Any:
    return twice(tf, x[0] * x[1], _scale(tensors, 0) * _scale(tensors, 1) / _scale(tensors, -1))


def _leaky(tf: Any, op: Op, x: list[Any], tensors: Tensors) -> Any:
    scale, output, slope = _scale(tensors, 0), _scale(tensors, -1), np.float32(op.option("alpha"))
    return tf.where(x[0] >= 0, twice(tf, x[0], scale / output), twice(tf, x[0], scale * slope / output))


def _parametric(tf: Any, op: Op, x: list[Any], tensors: Tensors) -> Any:
    scale, output, slope = _scale(tensors, 0), _scale(tensors, -1), _scale(tensors, 1)
    return tf.where(x[0] >= 0, twice(tf, x[0], scale / output), twice(tf, x[0] * x[1], scale * slope / output))


def _root(tf: Any, op: Op, x: list[Any], tensors: Tensors) -> Any:
    """Cut, not rounded."""
    values = tf.cast(tf.maximum(x[0], 0), tf.float32) * _scale(tensors, 0)
    return tf.cast(tf.floor(tf.sqrt(values) / _scale(tensors, -1)), tf.int64)


def _mean(tf: Any, op: Op, x: list[Any], tensors: Tensors) -> Any:
    """Fold the count into the multiplier: it is divided out of a multiplier that was moved up by its bits."""
    total = tf.reduce_sum(x[0], axis=reduced_axes(tensors), keepdims=bool(op.option("keepDims")))
    count = _count(tensors)
    multiplier, exponent = fixed_point(np.float64(_scale(tensors, 0)) / np.float64(_scale(tensors, -1)))
    shift = min(count.bit_length() - 1, 32, 31 + int(exponent))
    return twice_by(tf, total, (int(multiplier) << shift) // count, int(exponent) - shift)


def _rescaled(tf: Any, op: Op, x: list[Any], tensors: Tensors) -> Any:
    return twice(tf, x[0], np.float64(_scale(tensors, 0)) / np.float64(_scale(tensors, -1)))


def _table(function: Callable[[Any, np.float32], Any]) -> Row:
    """Return a function of (real values, largest value of the output)."""

    def applied(tf: Any, op: Op, x: list[Any], tensors: Tensors) -> Any:
        output = _scale(tensors, -1)
        with np.errstate(all="ignore"):
            table = anchors(lambda values: function(values, output), _scale(tensors, 0), 0, output)
        return looked_up(tf, table, x[0])

    return applied


def _gelu(approximate: bool) -> Callable[[Any, np.float32], Any]:
    def bent(x: Any) -> Any:
        if approximate:
            return np.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x))
        return np.vectorize(erf)(x * np.float32(np.sqrt(0.5)))

    return lambda x, scale: np.asarray(np.float32(0.5) * x * (1 + bent(x)), np.float32)


def _sigmoid(function: Callable[[Any, Any], Any]) -> Row:
    return lambda tf, op, x, tensors: function(tf, sigmoid_input(tf, x[0], _scale(tensors, 0)))


ROWS: Mapping[tuple[str, str], Row] = {
    ("ADD", "int8"): _sum(1, 20),
    ("ADD", "int16"): _sum(1, 15, once),
    ("SUB", "int8"): _sum(-1, 20),
    ("SUB", "int16"): _sum(-1, 15),
    ("MUL", "int8"): _product,
    ("MUL", "int16"): _product,
    ("SQUARED_DIFFERENCE", "int8"): _squared_difference,
    ("LEAKY_RELU", "int8"): _leaky,
    ("LEAKY_RELU", "int16"): _leaky,
    ("MEAN", "int16"): _mean,
    ("QUANTIZE", "int8"): _rescaled,
    ("QUANTIZE", "uint8"): _rescaled,
    ("QUANTIZE", "int16"): _rescaled,
    ("RSQRT", "int16"): _table(lambda x, scale: np.where(x <= 0, np.float32(2**15 - 1) * scale, 1 / np.sqrt(x))),
    ("EXP", "int16"): _table(lambda x, scale: np.exp(x)),
    ("GELU", "int16"): lambda tf, op, x, tensors: _table(_gelu(bool(op.option("approximate"))))(tf, op, x, tensors),
    ("PRELU", "int8"): _parametric,
    ("SQRT", "int8"): _root,
    ("SQRT", "int16"): _root,
    ("HARD_SWISH", "int8"): lambda tf, op, x, tensors: hard_swish(tf, x[0], _scale(tensors, 0), _scale(tensors, -1)),
    ("LOGISTIC", "int16"): _sigmoid(logistic),
    ("TANH", "int16"): _sigmoid(tanh),
    ("SOFTMAX", "int16"): lambda tf, op, x, tensors: softmax(tf, x[0], _scale(tensors, 0), op.option("beta")),
}
