"""A plan together with the encodings that follow from it: what placement hands on to the choice of codes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tfq_converters.graph import Graph
from tfq_converters.quantized import ActivationEncoding
from tfq_fine.activations.attention_masks import bounded
from tfq_fine.activations.choose_encodings import Encodings, Node, encodings
from tfq_fine.calibration import Statistics
from tfq_fine.planning import Plan


@dataclass(frozen=True)
class EncodedPlan:
    """A plan, and the encodings of the activations of its integer operators."""

    plan: Plan
    statistics: Statistics | None  # with the ranges that were chosen; None where none were needed
    ranges: Statistics  # the statistics, with the ranges of masked scores cut
    encodings: Encodings
    learned: Mapping[Node, ActivationEncoding] = field(default_factory=dict)  # encodings of groups, found by gradients
    held: bool = False  # by wrappers: no range may be learned

    def with_learned(self, graph: Graph, learned: Mapping[Node, ActivationEncoding]) -> "EncodedPlan":
        """Return the plan with other encodings of some groups of tensors, by representative, for all that read them."""
        together = {**self.learned, **learned}
        return replace(self, encodings=encodings(graph, self.plan, self.ranges, together), learned=together)


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
