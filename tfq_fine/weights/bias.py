"""Biases: which of them are corrected, and their codes."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

import numpy as np

from tfq_converters.graph import ABSENT, Graph, Op, Subgraph
from tfq_converters.operators import bias_of, bias_slot, data_of, weight_axes
from tfq_converters.quantized import OpKey, WeightCodes, simulated_weight
from tfq_fine.calibration import Statistics
from tfq_fine.numerics import affine
from tfq_fine.planning import Decision, Plan
from tfq_fine.request import WeightedSpec, WeightSpec
from tfq_fine.weights.bias_correction import corrected_bias


def corrects_biases(graph: Graph, plan: Plan) -> bool:
    """Return whether channel means would change a bias of the main subgraph."""
    return any(s == 0 and corrects(plan[s, o]) and bias_of(graph.main.ops[o]) != ABSENT for s, o in plan)


def corrects(decision: Decision) -> bool:
    """Return whether the recipe wants the bias of an operator corrected."""
    return isinstance(decision.spec, WeightedSpec) and decision.spec.weights.bias_correction


def with_corrections(plan: Plan, only: AbstractSet[OpKey]) -> Plan:
    """Return the plan in which no biases but those of `only` are corrected."""
    return {
        key: _uncorrected(decision) if key not in only and corrects(decision) else decision
        for key, decision in plan.items()
    }


def _uncorrected(decision: Decision) -> Decision:
    return replace(decision, spec=decision.weighted.with_weights(bias_correction=False))


def corrected_biases(
    key: OpKey,
    op: Op,
    subgraph: Subgraph,
    spec: WeightSpec,
    constants: Mapping[int, WeightCodes | np.ndarray],
    known: Statistics,
) -> dict[int, WeightCodes | np.ndarray]:
    """Return {bias slot: corrected float bias}; empty where nothing is to be corrected, or no mean is known."""
    bias = bias_of(op)
    if bias == ABSENT or not spec.bias_correction or not subgraph.tensors[bias].is_constant:
        return {}
    mean = known.means.get((key[0], data_of(op)))
    if mean is None:
        return {}
    (axes,) = weight_axes(op, subgraph)
    weight, data = subgraph.tensors[op.inputs[axes.slot]].constant, subgraph.tensors[bias].constant
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
