"""Operators that compute in integers: their weights, biases and other constants."""

from collections.abc import Mapping

import numpy as np

from tfq_converters.graph import Float32Array, Op, Subgraph
from tfq_converters.operators import facts_of, lstm, weight_axes
from tfq_converters.quantized import ActivationEncoding, OpEncoding, OpKey, WeightCodes
from tfq_fine.activations import Encodings, keeps_positive
from tfq_fine.calibration import Statistics
from tfq_fine.planning import Decision
from tfq_fine.weights.bias import bias_codes, keeps_mean
from tfq_fine.weights.lstm_weights import gate_biases, state_encodings
from tfq_fine.weights.scale_limits import first_part_scales, gate_floors, partial_sums, scale_floor
from tfq_fine.weights.solving import Solver, Stored


def integer_encoding(
    key: OpKey,
    op: Op,
    subgraph: Subgraph,
    decision: Decision,
    chosen: Encodings,
    solver: Solver,
    before: Mapping[OpKey, OpEncoding],
    known: Statistics,
) -> OpEncoding:
    """Encode an operator that computes in integers.

    Args:
        key: the operator.
        op: the operator itself.
        subgraph: the one that holds it.
        decision: the plan's.
        chosen: the encodings of all activations.
        solver: the solver of the graph's weights.
        before: the encodings of the operators before it.
        known: the statistics, which hold channel means and the states of fused LSTMs.
    """
    inputs, outputs = chosen.inputs[key], chosen.outputs[key]
    constants: dict[int, Stored] = {}
    partial = None
    if facts_of(op.code).weight is not None:
        constants, partial = _linear(key, op, subgraph, decision, inputs, outputs[0], solver, before)
    elif op.code == "BATCH_MATMUL":
        constants = solver.codes(key, op, subgraph, decision, before)
    elif op.code == lstm.CODE:
        inputs = {**inputs, **state_encodings(key, op, outputs[0], known)}
        constants = solver.codes(key, op, subgraph, decision, before, gate_floors(op, subgraph, inputs))
        constants |= gate_biases(op, subgraph, inputs[0].scale, constants)
    for slot, encoding in inputs.items():
        data = subgraph.tensors[op.inputs[slot]].data
        if data is not None and slot not in constants:
            constants[slot] = constant_codes(data, encoding, positive=keeps_positive(op, subgraph))
    activations = {slot: encoding for slot, encoding in inputs.items() if slot not in constants}
    return OpEncoding("integer", constants, activations, outputs, decision.form, partial, solver.how(key))


def _linear(
    key: OpKey,
    op: Op,
    subgraph: Subgraph,
    decision: Decision,
    inputs: Mapping[int, ActivationEncoding],
    output: ActivationEncoding,
    solver: Solver,
    before: Mapping[OpKey, OpEncoding],
) -> tuple[dict[int, Stored], ActivationEncoding | None]:
    """Return (the codes of weight and bias by slot, the encoding of partial sums where the operator is split)."""
    spec, (axes, *_) = decision.weighted.weights, facts_of(op.code).weights
    weight_slot = axes.slot
    source = next(encoding for slot, encoding in inputs.items() if slot != weight_slot)
    floor = scale_floor(op, subgraph, source.scale, output.scale, spec.stored_bits)
    keeps = keeps_mean(op, subgraph, spec)
    constants = solver.codes(key, op, subgraph, decision, before, {weight_slot: floor}, keeps)
    corrected = solver.bias(key, op, subgraph, spec, constants, before)
    weight, (axes, *_) = constants[weight_slot], weight_axes(op, subgraph)
    assert isinstance(weight, WeightCodes)
    if decision.form == "split":
        first = first_part_scales(weight, axes)
        bias = bias_codes(op, subgraph, 64, source.widened().scale, first, corrected)
        return constants | bias, partial_sums(weight, source, op, subgraph, corrected)
    bits = 32 if source.dtype == "int8" else 64
    return constants | bias_codes(op, subgraph, bits, source.scale, weight.scales_along(axes.channel), corrected), None


def constant_codes(data: Float32Array, encoding: ActivationEncoding, positive: bool = False) -> WeightCodes:
    """Encode a constant that stands in the place of an activation, in that activation's encoding.

    `data` is float32 of any shape, which the codes have too. Where it has to keep values `positive`, it is at least one
    step: a logarithm of 0 has no value.
    """
    shape = (1,) * data.ndim
    codes = encoding.encode(data)
    if positive:
        least = min(encoding.zero_point + 1, np.iinfo(codes.dtype).max)
        codes = np.asarray(np.maximum(codes, codes.dtype.type(least)))  # an array at rank 0 too
    return WeightCodes(
        codes,
        np.full(shape, encoding.scale, np.float32),
        np.full(shape, encoding.zero_point, np.int64),
        8 if encoding.dtype == "int8" else 16,
        data.shape,
    )
