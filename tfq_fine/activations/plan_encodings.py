"""A plan together with the encodings that follow from it: what placement hands on to the choice of codes."""

from dataclasses import dataclass

from tfq_converters.graph import Graph
from tfq_fine.activations.attention_masks import bounded
from tfq_fine.activations.choose_encodings import Encodings, encodings
from tfq_fine.calibration import Statistics
from tfq_fine.planning import Plan


@dataclass(frozen=True)
class EncodedPlan:
    """A plan, and the encodings of the activations of its integer operators."""

    plan: Plan
    statistics: Statistics | None  # with the ranges that were chosen; None where none were needed
    ranges: Statistics  # the statistics, with the ranges of masked scores cut
    encodings: Encodings


def encoded_plan(
    graph: Graph, plan: Plan, statistics: Statistics | None = None, bounded_masks: bool = True
) -> EncodedPlan:
    """Return a plan with the encodings of its activations.

    Args:
        graph: the float graph.
        plan: the decisions on its operators.
        statistics: ranges of activations; needed when an operator computes in integers.
        bounded_masks: the ranges of masked scores are cut (`attention_masks`).
    """
    ranges = statistics or Statistics()
    ranges = bounded(graph, plan, ranges) if bounded_masks else ranges
    return EncodedPlan(plan, statistics, ranges, encodings(graph, plan, ranges))
