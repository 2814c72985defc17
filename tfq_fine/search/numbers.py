"""The one place where the numbers of a file are chosen: for the file itself, and for every variant that is tried."""

import os
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cache

from tfq_converters.graph import Graph, IdentityCache
from tfq_converters.kernels import Target
from tfq_converters.quantized import OpKey, QuantizedGraph, WeightCodes
from tfq_fine.activations import search_ranges as automatic
from tfq_fine.calibration import Layerwise, Sample, Statistics
from tfq_fine.placement import How, place, with_islands
from tfq_fine.planning import Plan, Policy
from tfq_fine.weights import LayerInputs, quantize


@dataclass(frozen=True)
class Settings:
    """Settings that all variants of one job share."""

    policy: Policy = field(default_factory=lambda: Policy("speed", False, Target()))
    no_islands: bool = False  # nothing may go through float for speed: for a compiler, or between integer borders
    input_type: str = "float32"
    output_type: str = "float32"


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
    bounded_masks: bool,
    islands: Mapping[int, str] | None = None,
    given: Mapping[tuple[OpKey, int], WeightCodes] | None = None,
    cache: IdentityCache | None = None,
    adjusted: Callable[[Plan, Statistics | None], Statistics | None] | None = None,
    samples: Sequence[Sample] = (),
    how: Mapping[int, How] | None = None,
) -> Numbers:
    """Choose places, codes and scales.

    Args:
        graph: the float graph.
        plan: the decisions on its operators, which kernels can compute.
        statistics: the ranges that were chosen, and channel means; None where neither is needed.
        settings: the settings of the job.
        bounded_masks: the ranges of masked scores are cut (`attention_masks`).
        islands: operators of the main subgraph that are kept in float, and why.
        given: (operator, slot) -> codes that were chosen already.
        cache: codes of constants that other variants have, so that they are not computed again.
        adjusted: (plan, `statistics`) -> `statistics` with the ranges that wrappers hold.
        samples: a few inputs, in input order, for algorithms that read what operators before theirs compute.
        how: operator of `islands` -> how it holds its weights.
    """
    plan = with_islands(graph, plan, islands or {}, settings.policy.target, how)
    plan = place(graph, plan, statistics, settings.policy, settings.no_islands, bounded_masks)
    if adjusted is not None:
        statistics = adjusted(plan, statistics)
    borders = settings.input_type, settings.output_type
    layers = _layer_inputs(graph, samples) if samples else None
    quantized = quantize(graph, plan, statistics, *borders, bounded_masks, given, cache, layers)
    return Numbers(quantized, plan, statistics)


def _layer_inputs(graph: Graph, samples: Sequence[Sample]) -> LayerInputs:
    """Return what gives the inputs of operators, and is set up for the first algorithm that reads them."""
    layerwise = cache(lambda: Layerwise(graph, samples, os.cpu_count() or 1))
    return lambda key, before: layerwise().inputs_of(key, before)
