"""The statistics that the weight algorithms of a plan read."""

from collections.abc import Collection

from tfq_converters.graph import Graph
from tfq_converters.runtime import known_ops
from tfq_fine.algorithms import ALGORITHMS, has_statistics
from tfq_fine.calibration import StatisticsRequest, needs_of
from tfq_fine.planning import Plan
from tfq_fine.request import WeightedSpec


def weight_needs(graph: Graph, plan: Plan) -> StatisticsRequest:
    """Return what the weight algorithms of a plan read."""
    reads: dict[int, Collection[str]] = {}
    for o in known_ops(graph):
        spec = plan[0, o].spec
        if isinstance(spec, WeightedSpec) and has_statistics(graph.main.ops[o], graph.main):
            reads[o] = ALGORITHMS[spec.weights.algorithm].reads
    return needs_of(graph.main, reads)
