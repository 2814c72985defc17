"""The one place where the numbers of a file are chosen: for the file itself, and for every variant that is tried."""

import os
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import cache as computed_once

from tfq_converters.graph import Float64Array, Graph, IdentityCache
from tfq_converters.kernels import Target
from tfq_converters.quantized import OpKey, QuantizedGraph, TensorKey, WeightCodes
from tfq_fine.activations import EncodedPlan, encoded_plan, has_masks
from tfq_fine.activations import search_ranges as automatic
from tfq_fine.calibration import Layerwise, Range, Sample, Statistics
from tfq_fine.placement import place, with_islands
from tfq_fine.planning import Plan, Policy
from tfq_fine.variants.sample_count import SplitSamples
from tfq_fine.variants.variant import Variant
from tfq_fine.weights import Fitting, LayerInputs, quantize, with_corrections, with_stand_ins


@dataclass(frozen=True)
class Settings:
    """Settings that all variants of one job share."""

    policy: Policy = field(default_factory=lambda: Policy("speed", False, Target()))
    no_islands: bool = False  # nothing may go through float for speed: for a compiler, or between integer borders
    input_type: str = "float32"
    output_type: str = "float32"
    fitting: Fitting = field(default_factory=Fitting)  # who sees how far it is, and codes on disk


@dataclass(frozen=True)
class Numbers:
    """All that will be in the file."""

    quantized: QuantizedGraph
    plan: Plan
    known: Statistics | None  # with the ranges that were chosen


def choose_ranges(
    graph: Graph,
    plan: Plan,
    statistics: Statistics,
    samples: Sequence[Sample],
    only: AbstractSet[int] | None = None,
) -> Statistics:
    """Return `statistics` with the range of every activation as its observer chooses it.

    Args:
        graph: the float graph.
        plan: the decisions on its operators.
        statistics: the statistics of all samples.
        samples: a few of them, that observer `auto` tries ranges on.
        only: the tensors whose ranges are to be chosen; None for all.

    Raises:
        TfqError: the statistics are of another model, or do not hold what an observer reads.
    """
    statistics.require_of(graph)
    return automatic.ranged(graph, plan, statistics, samples, os.cpu_count() or 1, only)


def choose_numbers(
    graph: Graph,
    plan: Plan,
    statistics: Statistics | None,
    settings: Settings,
    variant: Variant,
    given: Mapping[tuple[OpKey, int], WeightCodes] | None = None,
    cache: IdentityCache | None = None,
    adjusted: Callable[[Plan, Statistics | None], Statistics | None] | None = None,
    samples: SplitSamples | None = None,
    means: Mapping[TensorKey, Float64Array] | None = None,
) -> Numbers:
    """Choose places, codes and scales.

    Args:
        graph: the float graph.
        plan: the decisions on its operators, which kernels can compute.
        statistics: the ranges that were chosen, and channel means; None where neither is needed.
        settings: the settings of the job.
        variant: what this way to quantize the model decides by itself; its graph is folded in `graph`.
        given: (operator, slot) -> codes that were chosen already.
        cache: places, encodings and codes that other variants have, so that they are not computed again.
        adjusted: (plan, `statistics`) -> `statistics` with the ranges that wrappers hold.
        samples: inputs for algorithms that read what operators before theirs compute.
        means: channel means that correct biases in place of those of `statistics`.
    """
    cache = IdentityCache() if cache is None else cache
    placed = _placed(graph, plan, statistics, settings, variant, cache)
    if adjusted is not None:
        statistics = adjusted(placed.plan, statistics)
        placed = replace(encoded_plan(graph, placed.plan, statistics, variant.bounded_masks), held=True)
    placed = replace(placed, plan=with_corrections(placed.plan, variant.corrected))
    if means is not None:
        placed = replace(placed, ranges=replace(placed.ranges, means=means))
    if not variant.fitted:
        placed = replace(placed, plan=with_stand_ins(placed.plan))
    layers = _layer_inputs(graph, samples) if samples is not None and samples.fitted else None
    types = settings.input_type, settings.output_type
    quantized = quantize(graph, placed, *types, given, cache, layers, settings.fitting)
    return Numbers(quantized, placed.plan, _with_learned(statistics, placed, quantized))


def _with_learned(known: Statistics | None, placed: EncodedPlan, quantized: QuantizedGraph) -> Statistics | None:
    """Return the statistics with the ranges of tensors whose scales were learned together with weights."""
    ranges: dict[TensorKey, Range] = {}
    for key, chosen in placed.encodings.outputs.items():
        encodings = quantized.ops[key].outputs if key in quantized.ops else {}
        for slot, encoding in encodings.items():
            if encoding != chosen[slot]:
                ranges[key[0], quantized.graph.subgraphs[key[0]].ops[key[1]].outputs[slot]] = Range(*encoding.limits)
    return known.with_ranges(ranges) if known is not None and ranges else known


def _placed(
    graph: Graph,
    plan: Plan,
    statistics: Statistics | None,
    settings: Settings,
    variant: Variant,
    cache: IdentityCache,
) -> EncodedPlan:
    """Place operators once for all variants that differ in no more than their biases."""
    policy, islands, how = settings.policy, variant.islands, variant.how

    def placed() -> EncodedPlan:
        kept = with_islands(graph, plan, islands, policy.target, how)
        return place(graph, kept, statistics, policy, settings.no_islands, variant.bounded_masks)

    key = variant.bounded_masks and has_masks(graph), tuple(islands.items()), tuple(how.items())
    return cache.once(placed, graph, plan, statistics, key=("placed", *key))


def _layer_inputs(graph: Graph, samples: SplitSamples) -> LayerInputs:
    """Return what gives the inputs of operators, and is set up for the first algorithm that reads them."""
    return computed_once(lambda: Layerwise(graph, samples.fitted, samples.apart, os.cpu_count() or 1))
