"""The statistics that a plan reads, all of them: of activations, of biases and of weight algorithms."""

from collections.abc import Collection
from collections.abc import Set as AbstractSet

from tfq_converters.graph import Graph
from tfq_converters.runtime import known_ops
from tfq_fine.activations import activation_needs
from tfq_fine.algorithms import algorithm_of, has_state, has_statistics
from tfq_fine.calibration import StatisticsRequest, mean_needs, needs_of
from tfq_fine.planning import Plan
from tfq_fine.request import WeightedSpec
from tfq_fine.weights.bias import corrects_biases


def plan_needs(graph: Graph, plan: Plan, is_static: bool, only: AbstractSet[int] | None = None) -> StatisticsRequest:
    """Return what calibration must gather for a plan.

    Args:
        graph: the float graph.
        plan: the decisions on its operators.
        is_static: ranges of activations are needed.
        only: the tensors whose ranges are to be chosen; None for all.
    """
    reads = weight_needs(graph, plan)
    if is_static:
        return activation_needs(graph, plan, only).also(reads)
    return mean_needs(graph).also(reads) if corrects_biases(graph, plan) else reads


def weight_needs(graph: Graph, plan: Plan) -> StatisticsRequest:
    """Return what the weight algorithms of a plan read."""
    reads: dict[int, Collection[str]] = {}
    for o in known_ops(graph):
        spec = plan[0, o].spec
        op = graph.main.ops[o]
        if isinstance(spec, WeightedSpec) and has_state(op, graph.main):
            reads[o] = algorithm_of(spec.weights).reads & {"inputs"}
        if isinstance(spec, WeightedSpec) and has_statistics(op, graph.main):
            reads[o] = algorithm_of(spec.weights).reads
    return needs_of(graph.main, reads)
