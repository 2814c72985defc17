"""Codes of wrapped kernels that are fitted to the inputs of their operators in graph order, as `quantize` does."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from tfq_converters.graph import ABSENT, Float64Array, FloatArray, Graph
from tfq_converters.kernels import Target
from tfq_converters.operators import bias_of, bias_slot
from tfq_converters.quantized import OpKey, WeightCodes
from tfq_fine.algorithms import algorithm_of
from tfq_fine.calibration import Sample, Statistics
from tfq_fine.layers.kernel import QuantizedKernel
from tfq_fine.layers.kernel_lookup import Place
from tfq_fine.layers.overrides import Overrides, op_at
from tfq_fine.planning import Plan, Policy
from tfq_fine.variants import Settings, SplitSamples, Variant, choose_numbers, choose_ranges

Fits = Mapping[tuple[OpKey, int], tuple[QuantizedKernel, Place]]  # operator and slot -> its kernel, and what part of it
_POLICY = Policy("size", True, Target())


def fitted_plan(graph: Graph, overrides: Overrides, plan: Plan) -> Plan | None:
    """Return the plan of a file in which wrapped kernels are fitted to their inputs; None where none of them is.

    Args:
        graph: the float graph.
        overrides: the decisions of the wrappers.
        plan: the plan for what is not wrapped.
    """
    places = _fits(overrides)
    if not places:
        return None
    merged = overrides.merged(graph, plan, _POLICY)
    corrected = {key: merged[key] for (key, _), (kernel, _) in places.items() if _corrects(kernel)}
    return merged.but(
        {
            key: replace(decision, spec=decision.weighted.with_weights(bias_correction=True))
            for key, decision in corrected.items()
        }
    )


def fit_to_inputs(
    graph: Graph, plan: Plan, overrides: Overrides, statistics: Statistics, samples: Sequence[Sample]
) -> None:
    """Fit the codes of wrapped kernels, and give them to their wrappers.

    Args:
        graph: the float graph.
        plan: that of `fitted_plan`.
        overrides: the decisions of the wrappers, whose ranges are known.
        statistics: what `weights.plan_needs` asks for.
        samples: inputs of the model.
    """
    if plan.integer_ops:
        statistics = choose_ranges(graph, plan, statistics, samples)
    numbers = choose_numbers(
        graph,
        plan,
        statistics,
        Settings(_POLICY),
        Variant(graph, {}, fitted=True),
        adjusted=partial(overrides.with_ranges, graph),
        samples=SplitSamples.of(graph, samples, fits=True),
    )
    done: set[int] = set()
    for (key, slot), (kernel, place) in _fits(overrides).items():
        if id(kernel) in done or key not in numbers.quantized.ops:
            continue
        constants = numbers.quantized.ops[key].weights
        codes = constants[slot]
        assert isinstance(codes, WeightCodes), "wrapped kernels are planned in codes"
        shift = _shift(graph, key, constants, place) if _corrects(kernel) else None
        kernel.fitted.hold(kernel, _of_kernel(codes, place), shift)
        done.add(id(kernel))


def _fits(overrides: Overrides) -> Fits:
    """Return the places of kernels whose codes are fitted, and which hold all of them."""
    return {
        where: (kernel, place)
        for where, (kernel, place) in overrides.places.items()
        if kernel.fitted is not None and where[0][0] == 0 and len(place.factor) == kernel.values.shape[place.channel]
    }


def _corrects(kernel: QuantizedKernel) -> bool:
    weights = kernel.plan.spec.weights
    fits = algorithm_of(weights).scope == "operator"
    return fits and weights.bias_correction and kernel.fitted.bias is not None


def _of_kernel(codes: WeightCodes, place: Place) -> WeightCodes:
    """Return the codes of a constant as those of its kernel, without what the converter multiplied channels with."""
    along = [-1 if axis == place.channel else 1 for axis in range(codes.scale.ndim)]
    factor = place.factor if codes.block[place.channel] == 1 else place.factor[:1]
    return replace(codes, scale=(codes.scale / factor.reshape(along)).astype(np.float32))


def _shift(
    graph: Graph, key: OpKey, constants: Mapping[int, WeightCodes | FloatArray], place: Place
) -> Float64Array | None:
    """Return what is added to the bias of a layer, float64 [channels]; None for nothing."""
    op = op_at(graph, key)
    corrected = constants.get(bias_slot(op.code))
    if corrected is None or bias_of(op) == ABSENT:
        return None
    values = corrected.dequantize() if isinstance(corrected, WeightCodes) else corrected
    before = graph.subgraphs[key[0]].tensors[bias_of(op)].constant
    return np.asarray((values.reshape(-1).astype(np.float64) - before.reshape(-1)) / place.factor)
