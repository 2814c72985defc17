"""The stage that chooses the numbers: (float graph, plan, statistics) -> `QuantizedGraph`."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tfq_converters.errors import TfqError
from tfq_converters.graph import ABSENT, Graph, Op, Subgraph
from tfq_converters.op_table import OPS, OpRow
from tfq_converters.quantized import (
    ActivationEncoding,
    OpEncoding,
    OpKey,
    QuantizedGraph,
    TensorKey,
    WeightCodes,
    simulated_weight,
)
from tfq_converters.weights import BIAS_SLOT, WeightAxes, bias_of, data_of, float_constants, weight_axes
from tfq_fine import affine
from tfq_fine.algorithms import ALGORITHMS
from tfq_fine.encodings import Encodings, encodings, keeps_positive
from tfq_fine.equalization.bias_correction import corrected_bias
from tfq_fine.granularity import block_shape
from tfq_fine.masks import bounded
from tfq_fine.plan import HALF_MINIMUM, Plan
from tfq_fine.specs import OpSpec, WeightSpec
from tfq_fine.statistics import Statistics

BORDER_TYPES = ("float32", "int8", "uint8", "int16")
ACCUMULATOR_LIMIT = 2.0**30  # of a bias code; half of int32, so that the sum has room
SMALLEST_RESCALE = 2.0**-30  # of input scale * weight scale / output scale; kernels refuse or flush smaller ones
LARGEST_HALF = 65504.0


class _Weights:
    """Codes of constants, each computed once for all operators that share a constant and agree on its spec."""

    def __init__(self) -> None:
        self._found: dict[tuple, tuple[WeightCodes | np.ndarray, np.ndarray]] = {}

    def codes(self, data: np.ndarray, axes: WeightAxes, spec: WeightSpec, floor: np.ndarray | None) -> WeightCodes:
        key = (id(data), axes, spec, None if floor is None else floor.tobytes())
        if key not in self._found:
            if spec.algorithm not in ALGORITHMS:
                raise TfqError(f"unknown algorithm {spec.algorithm!r}; known: {', '.join(ALGORITHMS)}")
            block = block_shape(spec.granularity, data.shape, axes.channel, axes.inputs)
            codes = ALGORITHMS[spec.algorithm](data, block, spec)
            if floor is not None:
                codes = _raised(data, codes, floor, axes.channel)
            self._found[key] = (codes, data)
        return self._found[key][0]  # type: ignore[return-value]

    def half(self, data: np.ndarray) -> np.ndarray:
        key = (id(data), "half")
        if key not in self._found:
            self._found[key] = (data.astype(np.float16), data)
        return self._found[key][0]  # type: ignore[return-value]


def _raised(data: np.ndarray, codes: WeightCodes, floor: np.ndarray, channel: int) -> WeightCodes:
    """`codes` with every scale at least `floor` [channels]; encoded anew where one was smaller."""
    blocks = codes.scale.shape[channel]
    shape = [blocks if axis == channel else 1 for axis in range(codes.scale.ndim)]
    lowest = floor.reshape(blocks, -1).max(axis=1).reshape(shape)
    if not (codes.scale < lowest).any():
        return codes
    scale = np.maximum(codes.scale, lowest).astype(np.float32)
    return affine.encode(data, scale, codes.zero_point, codes.bits, narrow=True)


def quantize(
    graph: Graph,
    plan: Plan,
    statistics: Statistics | None = None,
    input_type: str = "float32",
    output_type: str = "float32",
) -> QuantizedGraph:
    """Choose all codes, scales and zero points.

    Args:
        graph: the float graph.
        plan: a decision per operator.
        statistics: ranges of activations; needed when an operator computes in integers or a border is in integers.
        input_type: of the file's float inputs: float32, int8, uint8 or int16.
        output_type: of its float outputs.

    Raises:
        TfqError: an unknown border type or algorithm, or a granularity that does not fit a weight.
    """
    known = bounded(graph, plan, statistics or Statistics())
    found = encodings(graph, plan, known)
    weights, ops = _Weights(), {}
    for key, decision in plan.items():
        op, subgraph = graph.subgraphs[key[0]].ops[key[1]], graph.subgraphs[key[0]]
        spec = decision.spec
        if spec is None:
            continue
        if spec.mode == "float16":
            ops[key] = _half(op, subgraph, weights)
        elif spec.mode == "integer":
            ops[key] = _integer(key, op, subgraph, spec, found, weights, known)
        else:
            constants = _weight_codes(key, op, subgraph, spec, weights)
            ops[key] = OpEncoding(spec.mode, constants | _corrected(key, op, subgraph, spec, constants, known))
    return QuantizedGraph(graph, ops, _borders(graph, found, statistics, input_type, output_type))


def _weight_codes(
    key: OpKey, op: Op, subgraph: Subgraph, spec: OpSpec, weights: _Weights, floor: np.ndarray | None = None
) -> dict[int, WeightCodes | np.ndarray]:
    assert spec.weights is not None
    found: dict[int, WeightCodes | np.ndarray] = {}
    for axes in weight_axes(op, subgraph):
        data = subgraph.tensors[op.inputs[axes.slot]].data
        assert data is not None
        try:
            found[axes.slot] = weights.codes(data, axes, spec.weights, floor)
        except TfqError as error:
            raise TfqError(f"{subgraph.op_name(key[1])}: {error}") from error
    return found


def _half(op: Op, subgraph: Subgraph, weights: _Weights) -> OpEncoding:
    found: dict[int, WeightCodes | np.ndarray] = {}
    for slot in float_constants(op, subgraph):
        data = subgraph.tensors[op.inputs[slot]].data
        assert data is not None
        if data.size >= HALF_MINIMUM and np.abs(data).max() <= LARGEST_HALF:
            found[slot] = weights.half(data)
    return OpEncoding("float16", found) if found else OpEncoding("float")


def _integer(
    key: OpKey, op: Op, subgraph: Subgraph, spec: OpSpec, found: Encodings, weights: _Weights, known: Statistics
) -> OpEncoding:
    inputs, outputs = found.inputs[key], found.outputs[key]
    row = OPS[op.code]
    constants: dict[int, WeightCodes | np.ndarray] = {}
    if row.weight is not None:
        floor = _scale_floor(op, subgraph, inputs[_activation(inputs, row.weight)].scale, outputs[0].scale, row)
        constants |= _weight_codes(key, op, subgraph, spec, weights, floor)
        corrected = _corrected(key, op, subgraph, spec, constants, known)
        input_scale = inputs[_activation(inputs, row.weight)].scale
        constants |= _bias(op, subgraph, spec, input_scale, constants[row.weight], corrected)
    elif op.code == "BATCH_MATMUL":
        constants |= _weight_codes(key, op, subgraph, spec, weights)
    for slot, encoding in inputs.items():
        data = subgraph.tensors[op.inputs[slot]].data
        if data is not None and slot not in constants:
            constants[slot] = constant_codes(data, encoding, positive=keeps_positive(op, subgraph))
    activations = {slot: encoding for slot, encoding in inputs.items() if slot not in constants}
    return OpEncoding("integer", constants, activations, outputs)


def _activation(inputs: Mapping[int, ActivationEncoding], weight: int) -> int:
    return next(slot for slot in inputs if slot != weight)


def _scale_floor(op: Op, subgraph: Subgraph, input_scale: float, output_scale: float, row: OpRow) -> np.ndarray:
    """The smallest weight scale per channel [C] whose bias fits the accumulator and whose rescaling kernels accept.

    Channels that batch norm all but switched off have weights near zero under an ordinary bias.
    """
    assert row.weight is not None and row.channel_axis is not None
    channels = subgraph.tensors[op.inputs[row.weight]].shape[row.channel_axis]
    floor = np.full(channels, SMALLEST_RESCALE * output_scale / input_scale)
    if row.bias is not None and row.bias < len(op.inputs) and op.inputs[row.bias] >= 0:
        bias = subgraph.tensors[op.inputs[row.bias]].data
        assert bias is not None
        floor = np.maximum(floor, np.abs(bias.reshape(-1).astype(np.float64)) / (ACCUMULATOR_LIMIT * input_scale))
    return np.maximum(floor, affine.TINY)


def _corrected(
    key: OpKey,
    op: Op,
    subgraph: Subgraph,
    spec: OpSpec,
    constants: Mapping[int, WeightCodes | np.ndarray],
    known: Statistics,
) -> dict[int, WeightCodes | np.ndarray]:
    """{bias slot: corrected float bias}; empty where there is nothing to correct, or no mean to correct it with."""
    assert spec.weights is not None
    bias = bias_of(op)
    if bias == ABSENT or not spec.weights.bias_correction or subgraph.tensors[bias].data is None:
        return {}
    mean = known.means.get((key[0], data_of(op)))
    if mean is None:
        return {}
    (axes,) = weight_axes(op, subgraph)
    weight, data = subgraph.tensors[op.inputs[axes.slot]].data, subgraph.tensors[bias].data
    assert weight is not None and data is not None
    corrected = corrected_bias(data.reshape(-1), weight, simulated_weight(constants[axes.slot]), axes, mean)
    return {BIAS_SLOT[op.code]: corrected.reshape(data.shape)}


def _bias(
    op: Op,
    subgraph: Subgraph,
    spec: OpSpec,
    input_scale: float,
    weight: WeightCodes | np.ndarray,
    corrected: Mapping[int, WeightCodes | np.ndarray],
) -> dict[int, WeightCodes | np.ndarray]:
    slot, tensor = BIAS_SLOT[op.code], bias_of(op)
    if tensor == ABSENT:
        return {}
    data = corrected.get(slot, subgraph.tensors[tensor].data)
    assert isinstance(data, np.ndarray) and isinstance(weight, WeightCodes) and spec.activations is not None
    scale = weight.scale.reshape(-1)
    repeated = np.repeat(scale, data.size // scale.size) if 1 < scale.size < data.size else scale
    bits = 32 if spec.activations.bits == 8 else 64
    return {slot: affine.encode_bias(data.reshape(-1), input_scale, repeated, bits)}


def constant_codes(data: np.ndarray, encoding: ActivationEncoding, positive: bool = False) -> WeightCodes:
    """A constant that stands in the place of an activation, in that activation's encoding.

    Where it has to keep values `positive`, it is at least one step: on 0, it would let a logarithm have none.
    """
    shape = (1,) * data.ndim
    codes = encoding.encode(data)
    if positive:
        least = min(encoding.zero_point + 1, np.iinfo(codes.dtype).max)
        codes = np.asarray(np.maximum(codes, codes.dtype.type(least)))  # of rank 0 too
    return WeightCodes(
        codes,
        np.full(shape, encoding.scale, np.float32),
        np.full(shape, encoding.zero_point, np.int64),
        8 if encoding.dtype == "int8" else 16,
    )


def _borders(
    graph: Graph, found: Encodings, statistics: Statistics | None, input_type: str, output_type: str
) -> dict[TensorKey, ActivationEncoding]:
    borders = {}
    for side, tensors, dtype in (("input", graph.main.inputs, input_type), ("output", graph.main.outputs, output_type)):
        if dtype not in BORDER_TYPES:
            raise TfqError(f"{side} type {dtype!r} is not supported; supported: {', '.join(BORDER_TYPES)}")
        for t in tensors if dtype != "float32" else ():
            if graph.main.tensors[t].dtype == "float32":
                borders[0, t] = _border(t, found, statistics, dtype)
    return borders


def _border(t: int, found: Encodings, statistics: Statistics | None, dtype: str) -> ActivationEncoding:
    """The encoding inside the graph where the type agrees, else one from the range; uint8 is int8 shifted by 128."""
    bits = 16 if dtype == "int16" else 8
    encoding = found.tensors.get((t, bits))
    if encoding is None:
        if statistics is None:
            raise TfqError(f"inputs and outputs in {dtype} need representative data")
        encoding = affine.activation_encoding(*statistics.ranges[0, t], bits)
    if dtype == "uint8":
        return replace(encoding, dtype="uint8", zero_point=encoding.zero_point + 128)
    return encoding
