"""Biases: which of them are corrected, and their codes."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

import numpy as np

from tfq_converters.graph import ABSENT, Float64Array, FloatArray, Graph, Op, Subgraph
from tfq_converters.operators import bias_of, bias_slot, data_of, weight_axes
from tfq_converters.quantized import OpKey, WeightCodes, simulated_weight
from tfq_fine.calibration import Statistics
from tfq_fine.numerics import affine
from tfq_fine.planning import Decision, Plan
from tfq_fine.request import WeightedSpec, WeightSpec
from tfq_fine.weights.bias_correction import corrected_bias, whole_shift
from tfq_fine.weights.stand_ins import reads_inputs


def corrects_biases(graph: Graph, plan: Plan) -> bool:
    """Return whether channel means would change a bias of the main subgraph."""
    return any(s == 0 and corrects(plan[s, o]) and bias_of(graph.main.ops[o]) != ABSENT for s, o in plan)


def corrects(decision: Decision) -> bool:
    """Return whether the recipe wants the bias of an operator corrected."""
    return isinstance(decision.spec, WeightedSpec) and decision.spec.weights.bias_correction


def with_corrections(plan: Plan, only: AbstractSet[OpKey]) -> Plan:
    """Return the plan in which no biases but those of `only` are corrected by the means of all samples."""
    return plan.but(
        {
            key: _uncorrected(decision)
            for key, decision in plan.items()
            if key not in only and corrects(decision) and not reads_inputs(decision.weighted.weights)
        }
    )


def keeps_mean(op: Op, subgraph: Subgraph, spec: WeightSpec) -> bool:
    """Return whether the bias takes back what is lost up to an operator, by the inputs that its algorithm reads.

    The output values of a transposed convolution meet different parts of its window, so that one bias cannot.
    """
    bias = bias_of(op)
    if not spec.bias_correction or bias == ABSENT or op.code == "TRANSPOSE_CONV":
        return False
    return reads_inputs(spec) and subgraph.tensors[bias].is_constant


def _uncorrected(decision: Decision) -> Decision:
    return replace(decision, spec=decision.weighted.with_weights(bias_correction=False))


def corrected_biases(
    key: OpKey,
    op: Op,
    subgraph: Subgraph,
    spec: WeightSpec,
    constants: Mapping[int, WeightCodes | FloatArray],
    known: Statistics,
    means: tuple[Float64Array, Float64Array] | None = None,
) -> dict[int, WeightCodes | FloatArray]:
    """Return {bias slot: its corrected values, float32}; empty where nothing is to be corrected, or no mean is known.

    Args:
        key: the operator.
        op: the operator itself.
        subgraph: the one that holds it.
        spec: the spec of its weights.
        constants: its codes.
        known: the statistics, with the means of its inputs in the float model.
        means: the mean patches of its inputs on some samples, (exact, quantized), each float64 [groups, K], where its
            algorithm reads inputs.
    """
    bias = bias_of(op)
    if bias == ABSENT or not spec.bias_correction or not subgraph.tensors[bias].is_constant:
        return {}
    (axes,) = weight_axes(op, subgraph)
    weight, data = subgraph.tensors[op.inputs[axes.slot]].constant, subgraph.tensors[bias].constant
    if means is not None and keeps_mean(op, subgraph, spec):
        stored = simulated_weight(constants[axes.slot])
        shift = whole_shift(weight, stored, axes, *means)
        return {bias_slot(op.code): (data.reshape(-1) - shift).astype(np.float32).reshape(data.shape)}
    mean = known.means.get((key[0], data_of(op)))
    if mean is None:
        return {}
    corrected = corrected_bias(data.reshape(-1), weight, simulated_weight(constants[axes.slot]), axes, mean)
    return {bias_slot(op.code): corrected.reshape(data.shape)}


def bias_codes(
    op: Op,
    subgraph: Subgraph,
    bits: int,
    input_scale: float,
    scale: FloatArray,
    corrected: Mapping[int, WeightCodes | FloatArray],
) -> dict[int, WeightCodes | FloatArray]:
    """Return {bias slot: codes of `bits`, at the scale of the sums}; empty where there is no bias.

    Args:
        op: the operator.
        subgraph: the one that holds it.
        bits: 32 or 64.
        input_scale: the scale of its input.
        scale: the scales of its weight, [O], or [1] for all channels.
        corrected: slot -> the bias to take in place of the constant, float32 of its shape.
    """
    slot, tensor = bias_slot(op.code), bias_of(op)
    if tensor == ABSENT:
        return {}
    data = corrected.get(slot, subgraph.tensors[tensor].data)
    assert isinstance(data, np.ndarray)
    return {slot: affine.encode_bias(data.reshape(-1), input_scale, scale, bits)}
