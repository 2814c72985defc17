"""The stage that chooses the numbers: (float graph, plan, statistics) -> `QuantizedGraph`."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import ABSENT, Graph, Op, Subgraph
from tfq_converters.operators import (
    WeightAxes,
    bias_of,
    bias_slot,
    data_of,
    facts_of,
    float_constants,
    lstm,
    weight_axes,
)
from tfq_converters.quantized import (
    ActivationEncoding,
    Form,
    OpEncoding,
    OpKey,
    QuantizedGraph,
    TensorKey,
    WeightCodes,
    simulated_weight,
)
from tfq_converters.realize import kernel_reads_rows
from tfq_fine import affine
from tfq_fine.algorithms import ALGORITHMS, DATA_FREE
from tfq_fine.algorithms.inputs import InputStatistics
from tfq_fine.borders import integer_borders
from tfq_fine.encodings import Encodings, encodings, keeps_positive
from tfq_fine.equalization.bias_correction import corrected_bias
from tfq_fine.granularity import block_shape
from tfq_fine.masks import bounded
from tfq_fine.plan import HALF_MINIMUM, Decision, Plan
from tfq_fine.specs import OpSpec, WeightSpec
from tfq_fine.statistics import Statistics

BORDER_TYPES = ("float32", "int8", "uint8", "int16")
ACCUMULATOR_LIMIT = 2.0**30  # of a bias code; half of int32, so that the sum has room
# The fast kernels hold int4 codes in the high bits of a byte: their sums are 16 times as large, and overflow silently.
LOW_BIT_LIMIT = ACCUMULATOR_LIMIT / 16
SMALLEST_RESCALE = 2.0**-30  # of input scale * weight scale / output scale; kernels refuse or flush smaller ones
LARGEST_HALF = 65504.0
LARGE_WEIGHT = 2**25  # bytes, beyond which a weight's pages in a mapped file are let go once it is encoded


# (constant, its spec ...) -> its codes, and the constant, so that its identity stays its own
CodeCache = dict[tuple, tuple[WeightCodes | np.ndarray, np.ndarray]]


class _Weights:
    """Codes of constants, each computed once for all operators that share a constant and agree on its spec.

    The algorithm sees what the first of these operators reads.
    """

    def __init__(
        self,
        given: Mapping[tuple[OpKey, int], WeightCodes],
        means: Mapping[TensorKey, np.ndarray],
        cache: CodeCache | None = None,
    ) -> None:
        self.given, self.means = given, means
        self._found: CodeCache = {} if cache is None else cache
        self._own: CodeCache = {}  # of algorithms that look at the inputs, which differ from variant to variant

    def codes(
        self,
        data: np.ndarray,
        axes: WeightAxes,
        spec: WeightSpec,
        form: Form,
        floor: np.ndarray | None,
        inputs: InputStatistics,
        repeated: bool,
    ) -> WeightCodes:
        same = replace(spec, bias_correction=False)  # which changes no code
        key = (id(data), axes, same, form, repeated, None if floor is None else floor.tobytes())
        cache = self._found if spec.algorithm in DATA_FREE else self._own
        if key not in cache:
            if spec.algorithm not in ALGORITHMS:
                raise TfqError(f"unknown algorithm {spec.algorithm!r}; known: {', '.join(ALGORITHMS)}")
            block, codes_form = layout(data.shape, axes, spec, form)
            codes = ALGORITHMS[spec.algorithm](data, block, codes_form, inputs, dict(spec.options))
            if floor is not None:
                codes = _raised(data, codes, floor, axes.channel, codes_form)
            if repeated:
                codes = _one_scale_each(codes, axes.channel)
            cache[key] = (codes, data)
            if data.nbytes > LARGE_WEIGHT:
                flatbuffer.forget_pages()
        return cache[key][0]  # type: ignore[return-value]

    def half(self, data: np.ndarray) -> np.ndarray:
        key = (id(data), "half")
        if key not in self._found:
            self._found[key] = (data.astype(np.float16), data)
            if data.nbytes > LARGE_WEIGHT:
                flatbuffer.forget_pages()
        return self._found[key][0]  # type: ignore[return-value]


def layout(
    shape: tuple[int, ...], axes: WeightAxes, spec: WeightSpec, form: Form
) -> tuple[tuple[int, ...], affine.CodeFormat]:
    """(block of values that share a scale, format of codes and scales) of a weight of `shape` in the file."""
    block = block_shape(spec.granularity, shape, axes.channel, axes.inputs, whole_window=form == "split")
    return block, affine.CodeFormat(spec.bits, spec.symmetric, _scale_type(shape, spec, block, form))


def _scale_type(shape: tuple[int, ...], spec: WeightSpec, block: tuple[int, ...], form: Form) -> affine.ScaleType:
    """In which precision the file holds the scales."""
    if form == "lookup":
        blockwise = spec.stored_bits == 4 and block[1] < shape[1] and kernel_reads_rows(shape[1], block[1])
        return "bfloat16" if blockwise else "float32"
    varying = sum(size > length for size, length in zip(shape, block, strict=True))
    if form == "dequantize" and spec.symmetric and varying > 1:
        return "float16"
    return "bfloat16" if form == "blockwise" else "float32"


def _one_scale_each(codes: WeightCodes, channel: int) -> WeightCodes:
    """The one scale of a tensor once for each channel."""
    shape = tuple(size if axis == channel else 1 for axis, size in enumerate(codes.codes.shape))
    block = tuple(1 if axis == channel else size for axis, size in enumerate(codes.codes.shape))
    scale, zero_point = (np.broadcast_to(a.reshape(-1)[0], shape).copy() for a in (codes.scale, codes.zero_point))
    return WeightCodes(codes.codes, scale, zero_point, codes.bits, block)


def _raised(
    data: np.ndarray, codes: WeightCodes, floor: np.ndarray, channel: int, form: affine.CodeFormat
) -> WeightCodes:
    """`codes` with every scale at least `floor` [channels]; encoded anew where one was smaller.

    Blocks of zeros get no more than that: any scale holds them, and a bias is the finer the smaller it is.
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


def quantize(
    graph: Graph,
    plan: Plan,
    statistics: Statistics | None = None,
    input_type: str = "float32",
    output_type: str = "float32",
    bounded_masks: bool = True,
    given: Mapping[tuple[OpKey, int], WeightCodes] | None = None,
    cache: CodeCache | None = None,
) -> QuantizedGraph:
    """Choose all codes, scales and zero points.

    Args:
        graph: the float graph.
        plan: a decision per operator.
        statistics: ranges of activations; needed when an operator computes in integers or a border is in integers.
        input_type: of the file's float inputs: float32, int8, uint8 or int16.
        output_type: of its float outputs.
        bounded_masks: the ranges of masked scores are cut (`masks`).
        given: (operator, slot) -> codes that were chosen already. Their scales are raised where a bias would overflow.
        cache: codes that were computed for other variants of the model; those of this one are added.

    Raises:
        TfqError: an unknown border type or algorithm, or a granularity that does not fit a weight.
    """
    known = statistics or Statistics()
    known = bounded(graph, plan, known) if bounded_masks else known
    found = encodings(graph, plan, known)
    weights, ops = _Weights(given or {}, known.means, cache), {}
    for key, decision in plan.items():
        op, subgraph = graph.subgraphs[key[0]].ops[key[1]], graph.subgraphs[key[0]]
        spec = decision.spec
        if spec is None:
            continue
        if spec.mode == "float16":
            ops[key] = _half(op, subgraph, weights)
        elif spec.mode == "integer":
            ops[key] = _integer(key, op, subgraph, decision, found, weights, known)
        else:
            constants = _weight_codes(key, op, subgraph, decision, weights)
            corrected = _corrected(key, op, subgraph, spec, constants, known)
            ops[key] = OpEncoding(spec.mode, constants | corrected, form=decision.form)
    return QuantizedGraph(graph, ops, _borders(graph, found, statistics, input_type, output_type))


def _weight_codes(
    key: OpKey,
    op: Op,
    subgraph: Subgraph,
    decision: Decision,
    weights: _Weights,
    floors: Mapping[int, np.ndarray] | None = None,
) -> dict[int, WeightCodes | np.ndarray]:
    assert decision.spec is not None and decision.spec.weights is not None
    found: dict[int, WeightCodes | np.ndarray] = {}
    for axes in weight_axes(op, subgraph):
        data = subgraph.tensors[op.inputs[axes.slot]].data
        assert data is not None
        floor = (floors or {}).get(axes.slot)
        if (key, axes.slot) in weights.given:
            codes = weights.given[key, axes.slot]
            codes = codes if floor is None else _raised(data, codes, floor, axes.channel, _format(decision, codes))
            found[axes.slot] = _one_scale_each(codes, axes.channel) if decision.repeated else codes
            continue
        try:
            spec, form = decision.spec.weights, decision.form
            inputs = InputStatistics(weights.means.get((key[0], data_of(op))))
            found[axes.slot] = weights.codes(data, axes, spec, form, floor, inputs, decision.repeated)
        except TfqError as error:
            raise TfqError(f"{subgraph.op_name(key[1])}: {error}") from error
    return found


def _format(decision: Decision, codes: WeightCodes) -> affine.CodeFormat:
    assert decision.spec is not None and decision.spec.weights is not None
    spec = decision.spec.weights
    return affine.CodeFormat(
        spec.bits, spec.symmetric, _scale_type(codes.codes.shape, spec, codes.block, decision.form)
    )


def _half(op: Op, subgraph: Subgraph, weights: _Weights) -> OpEncoding:
    found: dict[int, WeightCodes | np.ndarray] = {}
    for slot in float_constants(op, subgraph):
        data = subgraph.tensors[op.inputs[slot]].data
        assert data is not None
        if data.size >= HALF_MINIMUM and np.abs(data).max() <= LARGEST_HALF:
            found[slot] = weights.half(data)
    return OpEncoding("float16", found, form="dequantize") if found else OpEncoding("float", form="dequantize")


def _integer(
    key: OpKey, op: Op, subgraph: Subgraph, decision: Decision, found: Encodings, weights: _Weights, known: Statistics
) -> OpEncoding:
    spec = decision.spec
    assert spec is not None
    inputs, outputs = found.inputs[key], found.outputs[key]
    weight_slot = facts_of(op.code).weight
    constants: dict[int, WeightCodes | np.ndarray] = {}
    partial = None
    if weight_slot is not None:
        assert spec.weights is not None
        scales = inputs[_activation(inputs, weight_slot)].scale, outputs[0].scale
        floor = _scale_floor(op, subgraph, *scales, spec.weights.stored_bits)
        constants |= _weight_codes(key, op, subgraph, decision, weights, {weight_slot: floor})
        corrected = _corrected(key, op, subgraph, spec, constants, known)
        source = inputs[_activation(inputs, weight_slot)]
        weight = constants[weight_slot]
        assert isinstance(weight, WeightCodes)
        if decision.form == "split":
            partial = _partial_sums(weight, source, op, subgraph, corrected)
            first = _first_part(weight, weight_axes(op, subgraph)[0])
            constants |= _bias(op, subgraph, 64, source.widened().scale, first, corrected)
        else:
            bits = 32 if source.dtype == "int8" else 64
            (axes,) = weight_axes(op, subgraph)
            constants |= _bias(op, subgraph, bits, source.scale, weight.scales_along(axes.channel), corrected)
    elif op.code == "BATCH_MATMUL":
        constants |= _weight_codes(key, op, subgraph, decision, weights)
    elif op.code == lstm.CODE:
        inputs = {**inputs, **_states(key, op, outputs[0], known)}
        floors = _gate_floors(op, subgraph, inputs)
        constants |= _weight_codes(key, op, subgraph, decision, weights, floors)
        constants |= _gate_biases(op, subgraph, inputs[0].scale, constants)
    for slot, encoding in inputs.items():
        data = subgraph.tensors[op.inputs[slot]].data
        if data is not None and slot not in constants:
            constants[slot] = constant_codes(data, encoding, positive=keeps_positive(op, subgraph))
    activations = {slot: encoding for slot, encoding in inputs.items() if slot not in constants}
    return OpEncoding("integer", constants, activations, outputs, decision.form, partial)


def _states(key: OpKey, op: Op, output: ActivationEncoding, known: Statistics) -> dict[int, ActivationEncoding]:
    """The encodings of both states of a fused LSTM; a c that was not seen may become whatever the clip allows."""
    seen = known.strains.get(key)
    largest = (op.option("cellClip") or np.inf) if seen is None else float(seen[0])
    return {lstm.HIDDEN: output, lstm.CELL: lstm.cell_encoding(largest)}


def _gate_floors(op: Op, subgraph: Subgraph, inputs: Mapping[int, ActivationEncoding]) -> dict[int, np.ndarray]:
    """The smallest scale of each weight of a fused LSTM, as `_scale_floor` has it: sums have scale 2^-12."""
    slots = [(slot, 0) for slot in lstm.INPUT_WEIGHTS] + [(slot, lstm.HIDDEN) for slot in lstm.STATE_WEIGHTS]
    floors = {slot: SMALLEST_RESCALE * lstm.SUM_STEP / inputs[source].scale for slot, source in slots}
    for slot, bias in zip(lstm.INPUT_WEIGHTS, lstm.BIASES, strict=True):
        largest = float(np.abs(np.asarray(subgraph.tensors[op.inputs[bias]].data)).max())
        floors[slot] = max(floors[slot], largest / (ACCUMULATOR_LIMIT * inputs[0].scale))
    return {slot: np.array([max(floor, affine.TINY)]) for slot, floor in floors.items()}


def _gate_biases(
    op: Op, subgraph: Subgraph, input_scale: float, constants: Mapping[int, WeightCodes | np.ndarray]
) -> dict[int, WeightCodes | np.ndarray]:
    """The biases of a fused LSTM, which are added to the sum of the input."""
    found: dict[int, WeightCodes | np.ndarray] = {}
    for slot, bias in zip(lstm.INPUT_WEIGHTS, lstm.BIASES, strict=True):
        weight, data = constants[slot], subgraph.tensors[op.inputs[bias]].data
        assert isinstance(weight, WeightCodes) and data is not None
        found[bias] = affine.encode_bias(data.reshape(-1), input_scale, weight.scale.reshape(-1), 32)
    return found


def _first_part(weight: WeightCodes, axes: WeightAxes) -> np.ndarray:
    """The scales [O] of the first group of inputs of a split."""
    assert axes.inputs is not None
    return np.take(weight.scale, 0, axis=axes.inputs).reshape(-1)


def _partial_sums(
    weight: WeightCodes,
    source: ActivationEncoding,
    op: Op,
    subgraph: Subgraph,
    corrected: Mapping[int, WeightCodes | np.ndarray],
) -> ActivationEncoding:
    """The int16 encoding that no partial sum of a split operator can leave.

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


def _activation(inputs: Mapping[int, ActivationEncoding], weight: int) -> int:
    return next(slot for slot in inputs if slot != weight)


def _scale_floor(op: Op, subgraph: Subgraph, input_scale: float, output_scale: float, bits: int) -> np.ndarray:
    """The smallest weight scale per channel [C] whose bias fits the accumulator and whose rescaling kernels accept.

    Channels that batch norm all but switched off have weights near zero under an ordinary bias.
    """
    limit = ACCUMULATOR_LIMIT if bits == 8 else LOW_BIT_LIMIT
    facts = facts_of(op.code)
    assert facts.weight is not None and facts.channel_axis is not None and facts.bias is not None
    channels = subgraph.tensors[op.inputs[facts.weight]].shape[facts.channel_axis]
    floor = np.full(channels, SMALLEST_RESCALE * output_scale / input_scale)
    if bias_of(op) != ABSENT:
        bias = subgraph.tensors[bias_of(op)].data
        assert bias is not None
        floor = np.maximum(floor, np.abs(bias.reshape(-1).astype(np.float64)) / (limit * input_scale))
    return np.maximum(floor, affine.TINY)


def corrects_biases(graph: Graph, plan: Plan) -> bool:
    """Whether channel means would change a bias of the main subgraph."""
    return any(s == 0 and corrects(plan[s, o]) and bias_of(graph.main.ops[o]) != ABSENT for s, o in plan)


def corrects(decision: Decision) -> bool:
    """Whether the recipe wants the bias of an operator corrected."""
    spec = decision.spec
    return spec is not None and spec.weights is not None and spec.weights.bias_correction


def with_corrections(plan: Plan, only: AbstractSet[OpKey]) -> Plan:
    """The plan in which no other biases are corrected."""
    return {
        key: _uncorrected(decision) if key not in only and corrects(decision) else decision
        for key, decision in plan.items()
    }


def _uncorrected(decision: Decision) -> Decision:
    assert decision.spec is not None and decision.spec.weights is not None
    weights = replace(decision.spec.weights, bias_correction=False)
    return replace(decision, spec=replace(decision.spec, weights=weights))


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
    return {bias_slot(op.code): corrected.reshape(data.shape)}


def _bias(
    op: Op,
    subgraph: Subgraph,
    bits: int,
    input_scale: float,
    scale: np.ndarray,
    corrected: Mapping[int, WeightCodes | np.ndarray],
) -> dict[int, WeightCodes | np.ndarray]:
    slot, tensor = bias_slot(op.code), bias_of(op)
    if tensor == ABSENT:
        return {}
    data = corrected.get(slot, subgraph.tensors[tensor].data)
    assert isinstance(data, np.ndarray)
    return {slot: affine.encode_bias(data.reshape(-1), input_scale, scale, bits)}


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
        data.shape,
    )


def _borders(
    graph: Graph, found: Encodings, statistics: Statistics | None, input_type: str, output_type: str
) -> dict[TensorKey, ActivationEncoding]:
    asked = integer_borders(graph, input_type, output_type)
    return {(0, t): _border(t, found, statistics, dtype) for t, dtype in asked.items()}


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
