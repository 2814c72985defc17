"""The limits of weight scales in integer kernels: biases and sums must fit their accumulators."""

from collections.abc import Mapping

import numpy as np

from tfq_converters.graph import ABSENT, Float64Array, FloatArray, Op, Subgraph
from tfq_converters.operators import WeightAxes, bias_of, bias_slot, facts_of, lstm, weight_axes
from tfq_converters.quantized import ActivationEncoding, WeightCodes
from tfq_fine.numerics import affine

ACCUMULATOR_LIMIT = 2.0**30  # largest code of a bias; half of int32, so that the sum has room
# The fast kernels hold int4 codes in the high bits of a byte: their sums are 16 times as large, and overflow silently.
LOW_BIT_LIMIT = ACCUMULATOR_LIMIT / 16
SMALLEST_RESCALE = 2.0**-30  # least input scale * weight scale / output scale; kernels refuse or flush smaller ones


def scale_floor(op: Op, subgraph: Subgraph, input_scale: float, output_scale: float, bits: int) -> Float64Array:
    """Return the smallest weight scale per channel [C] whose bias fits the accumulator and that kernels can rescale by.

    Channels that batch norm all but switched off have weights near zero under an ordinary bias.
    """
    limit = ACCUMULATOR_LIMIT if bits == 8 else LOW_BIT_LIMIT
    (axes, *_) = facts_of(op.code).weights
    channels = subgraph.tensors[op.inputs[axes.slot]].shape[axes.channel]
    floor = np.full(channels, SMALLEST_RESCALE * output_scale / input_scale)
    if bias_of(op) != ABSENT:
        bias = subgraph.tensors[bias_of(op)].constant
        floor = np.maximum(floor, np.abs(bias.reshape(-1).astype(np.float64)) / (limit * input_scale))
    return np.asarray(np.maximum(floor, affine.TINY))


def gate_floors(op: Op, subgraph: Subgraph, inputs: Mapping[int, ActivationEncoding]) -> dict[int, Float64Array]:
    """Return the smallest scale of each weight of a fused LSTM, as `scale_floor` does: sums have scale 2^-12."""
    slots = [(slot, 0) for slot in lstm.INPUT_WEIGHTS] + [(slot, lstm.HIDDEN) for slot in lstm.STATE_WEIGHTS]
    floors = {slot: SMALLEST_RESCALE * lstm.SUM_STEP / inputs[source].scale for slot, source in slots}
    for slot, bias in zip(lstm.INPUT_WEIGHTS, lstm.BIASES, strict=True):
        largest = float(np.abs(np.asarray(subgraph.tensors[op.inputs[bias]].data)).max())
        floors[slot] = max(floors[slot], largest / (ACCUMULATOR_LIMIT * inputs[0].scale))
    return {slot: np.array([max(floor, affine.TINY)]) for slot, floor in floors.items()}


def first_part_scales(weight: WeightCodes, axes: WeightAxes) -> FloatArray:
    """Return the scales [O] of the first group of inputs of a split."""
    return np.asarray(np.take(weight.scale, 0, axis=axes.input_axis).reshape(-1))


def partial_sums(
    weight: WeightCodes,
    source: ActivationEncoding,
    op: Op,
    subgraph: Subgraph,
    corrected: Mapping[int, WeightCodes | FloatArray],
) -> ActivationEncoding:
    """Return the int16 encoding that no partial sum of a split operator can leave.

    |sum| <= max |input| * sum |weight| + |bias|, per output channel.
    """
    (axes, *_) = weight_axes(op, subgraph)
    others = tuple(axis for axis in range(weight.codes.ndim) if axis != axes.channel)
    reach = 32767 * source.widened().scale * np.abs(weight.dequantize()).sum(axis=others, dtype=np.float64)
    if bias_of(op) != ABSENT:
        bias = corrected.get(bias_slot(op.code), subgraph.tensors[bias_of(op)].data)
        assert isinstance(bias, np.ndarray)
        reach = reach + np.abs(bias.reshape(-1))
    return affine.activation_encoding(-float(reach.max()), float(reach.max()), 16)
