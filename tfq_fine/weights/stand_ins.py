"""Algorithms in place of those that read the inputs of operators: where there are none, and to compare variants."""

from dataclasses import replace

from tfq_fine.algorithms import algorithm_named, with_stand_in
from tfq_fine.planning import Decision, Plan
from tfq_fine.request import WeightedSpec, WeightSpec


def reads_inputs(spec: WeightSpec) -> bool:
    """Return whether the algorithm of a spec reads the inputs of its operator, layer by layer."""
    row = algorithm_named(spec.algorithm)
    return row is not None and row.scope == "operator"


def without_inputs(spec: WeightSpec) -> WeightSpec:
    """Return the spec with the stand-in in place of an algorithm that reads inputs."""
    return with_stand_in(spec) if reads_inputs(spec) else spec


def fits_weights(plan: Plan) -> bool:
    """Return whether weights of a plan are fitted to the inputs of their operators."""
    return any(_fits(decision) for decision in plan.values())


def with_stand_ins(plan: Plan) -> Plan:
    """Return the plan with the stand-in in place of every algorithm that reads inputs."""
    return plan.but({key: _stand_in(decision) for key, decision in plan.items() if _fits(decision)})


def _fits(decision: Decision) -> bool:
    return isinstance(decision.spec, WeightedSpec) and reads_inputs(decision.spec.weights)


def _stand_in(decision: Decision) -> Decision:
    spec = decision.weighted
    return replace(decision, spec=replace(spec, weights=without_inputs(spec.weights)))
