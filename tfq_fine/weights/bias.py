"""Biases: which of them are corrected, and their codes."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

import numpy as np

from tfq_converters.graph import ABSENT, Graph, Op, Subgraph
from tfq_converters.operators import bias_of, bias_slot, data_of, weight_axes
from tfq_converters.quantized import OpKey, WeightCodes, simulated_weight
from tfq_fine.algorithms import ALGORITHMS, OperatorInputs
from tfq_fine.calibration import Statistics
from tfq_fine.numerics import affine
from tfq_fine.planning import Decision, Plan
from tfq_fine.request import OpSpec
from tfq_fine.weights.bias_correction import corrected_bias, whole_shift
from tfq_fine.weights.stand_ins import reads_inputs


def corrects_biases(graph: Graph, plan: Plan) -> bool:
    """Return whether channel means would change a bias of the main subgraph."""
    return any(s == 0 and corrects(plan[s, o]) and bias_of(graph.main.ops[o]) != ABSENT for s, o in plan)


def corrects(decision: Decision) -> bool:
    """Return whether the recipe wants the bias of an operator corrected."""
    spec = decision.spec
    return spec is not None and spec.weights is not None and spec.weights.bias_correction


def with_corrections(plan: Plan, only: AbstractSet[OpKey]) -> Plan:
    """Return the plan in which no biases but those of `only` are corrected by the means of all samples."""
    return plan.but(
        {
            key: _uncorrected(decision)
            for key, decision in plan.items()
            if key not in only and corrects(decision) and not reads_inputs(decision)
        }
    )


def keeps_mean(op: Op, subgraph: Subgraph, spec: OpSpec) -> bool:
    """Return whether the bias takes back what is lost up to an operator, by the inputs that its algorithm reads.

    The output values of a transposed convolution meet different parts of its window, so that one bias cannot.
    """
    bias = bias_of(op)
    if spec.weights is None or not spec.weights.bias_correction or bias == ABSENT or op.code == "TRANSPOSE_CONV":
        return False
    return ALGORITHMS[spec.weights.algorithm].scope == "operator" and subgraph.tensors[bias].data is not None


def _uncorrected(decision: Decision) -> Decision:
    assert decision.spec is not None and decision.spec.weights is not None
    weights = replace(decision.spec.weights, bias_correction=False)
    return replace(decision, spec=replace(decision.spec, weights=weights))


def corrected_biases(
    key: OpKey,
    op: Op,
    subgraph: Subgraph,
    spec: OpSpec,
    constants: Mapping[int, WeightCodes | np.ndarray],
    known: Statistics,
    inputs: OperatorInputs | None = None,
) -> dict[int, WeightCodes | np.ndarray]:
    """Return {bias slot: corrected float bias}; empty where nothing is to be corrected, or no mean is known.

    Args:
        key: the operator.
        op: the operator itself.
        subgraph: the one that holds it.
        spec: the spec of the operator.
        constants: its codes.
        known: the statistics, with the means of its inputs in the float model.
        inputs: its inputs on some samples, where its algorithm reads them.
    """
    assert spec.weights is not None
    bias = bias_of(op)
    if bias == ABSENT or not spec.weights.bias_correction or subgraph.tensors[bias].data is None:
        return {}
    (axes,) = weight_axes(op, subgraph)
    weight, data = subgraph.tensors[op.inputs[axes.slot]].data, subgraph.tensors[bias].data
    assert weight is not None and data is not None
    if inputs is not None and keeps_mean(op, subgraph, spec):
        stored = simulated_weight(constants[axes.slot])
        shift = whole_shift(weight, stored, axes, inputs.moments.exact_mean, inputs.moments.quantized_mean)
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
    scale: np.ndarray,
    corrected: Mapping[int, WeightCodes | np.ndarray],
) -> dict[int, WeightCodes | np.ndarray]:
    """Return {bias slot: codes of `bits`, at the scale of the sums}; empty where there is no bias."""
    slot, tensor = bias_slot(op.code), bias_of(op)
    if tensor == ABSENT:
        return {}
    data = corrected.get(slot, subgraph.tensors[tensor].data)
    assert isinstance(data, np.ndarray)
    return {slot: affine.encode_bias(data.reshape(-1), input_scale, scale, bits)}
