"""The right answers for a cell, computed from `operators` alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tfq_converters.graph import Float32Array, Float64Array
from tfq_converters.kernels import Cell
from tfq_converters.operators import facts_of
from tfq_converters.probe.cases import Form
from tfq_converters.probe.operands import LSTM, Operands, spanning
from tfq_converters.probe.operators import OPERATORS, lstm
from tfq_converters.quantized import ActivationEncoding

FLOAT_TOLERANCE = 1e-5  # share of the largest value: float32 sums of some hundred terms in any order
LSTM_STEPS = 3.0  # its output is rounded once, and read again in the next step, which is not emulated
LSTM_TOLERANCE = (
    2e-2  # share of the largest value: its state is rounded on the fly in every step, which is not emulated
)


@dataclass(frozen=True)
class Answer:
    """The right answers: each of `accepted` is one valid way of rounding on the fly."""

    accepted: tuple[Float64Array, ...]  # float64 values; codes where `encoding` is given
    tolerance: float  # largest allowed difference, in the units of `accepted`
    encoding: ActivationEncoding | None = None  # the form of the output


def answer(cell: Cell, form: Form, given: Operands) -> Answer:
    """Return the answer to `cell`."""
    weights = tuple(weight.values for weight in given.weights)
    if cell.op == LSTM:
        exact = lstm(given.seen, weights, given.gate_biases.astype(np.float64))
        if given.encoding is not None:
            encoding = spanning(float(exact.min()), float(exact.max()), 8)
            return Answer((encoding.encode(exact).astype(np.float64),), LSTM_STEPS, encoding)
        limit = LSTM_TOLERANCE if cell.mode == "dynamic" else FLOAT_TOLERANCE
        return Answer((exact,), limit * float(np.abs(exact).max()))
    if facts_of(cell.op).table and cell.mode.startswith("integer"):
        same = ActivationEncoding("int8", float(given.weights[0].affine.scale[0]), 0)
        return Answer((given.weights[0].stored[given.data].astype(np.float64),), 0.0, same)
    apply, weight = OPERATORS[cell.op], weights[0]
    bias = 0.0 if given.bias is None else given.bias.astype(np.float64)
    exact = apply(given.seen, weight) + bias
    if given.encoding is not None:
        encoding = spanning(float(exact.min()), float(exact.max()), int(cell.mode[7:]))
        return Answer((encoding.encode(exact).astype(np.float64),), 1.0, encoding)
    tolerance = FLOAT_TOLERANCE * float(np.abs(exact).max())
    if cell.mode != "dynamic":
        return Answer((exact,), tolerance)
    return Answer(tuple(apply(data, weight) + bias for data in on_the_fly(given.data)), tolerance)


def on_the_fly(data: Float32Array) -> Iterator[Float64Array]:
    """Round `data` as kernels do before they multiply: by sample or by last axis, with a zero point or without.

    Its shape, [n, ..., channels], stays.
    """
    for axes in (tuple(range(1, data.ndim)), (data.ndim - 1,)):
        low = np.minimum(data.min(axes, keepdims=True), 0).astype(np.float32)
        high = np.maximum(data.max(axes, keepdims=True), 0).astype(np.float32)
        yield _asymmetric(data, low.astype(np.float64), high.astype(np.float64))
        yield _symmetric(data, np.maximum(-low, high))


def _symmetric(data: Float32Array, most: Float32Array) -> Float64Array:
    return np.rint(data * (np.float32(127) / most)).astype(np.float64) * (most.astype(np.float64) / 127)


def _asymmetric(data: Float32Array, low: Float64Array, high: Float64Array) -> Float64Array:
    """Choose the zero point: the one of the end whose error is smaller, as in gemmlowp."""
    scale = (high - low) / 255
    from_low, from_high = -128 - low / scale, 127 - high / scale
    error_low, error_high = 128 + np.abs(low / scale), 127 + np.abs(high / scale)
    zero = np.rint(np.where(error_low < error_high, from_low, from_high)).clip(-128, 127)
    codes = (np.rint(data.astype(np.float64) / scale) + zero).clip(-128, 127)
    result: Float64Array = (codes - zero) * scale
    return result
