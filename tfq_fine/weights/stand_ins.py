"""Algorithms in place of those that read the inputs of operators: where there are none, and to compare variants."""

from dataclasses import replace

from tfq_fine.algorithms import ALGORITHMS
from tfq_fine.planning import Decision, Plan
from tfq_fine.request import WeightedSpec


def reads_inputs(decision: Decision) -> bool:
    """Return whether the algorithm of a decision reads the inputs of its operator, layer by layer."""
    spec = decision.spec
    return isinstance(spec, WeightedSpec) and ALGORITHMS[spec.weights.algorithm].scope == "operator"


def fits_weights(plan: Plan) -> bool:
    """Return whether weights of a plan are fitted to the inputs of their operators."""
    return any(reads_inputs(decision) for decision in plan.values())


def with_stand_ins(plan: Plan) -> Plan:
    """Return the plan with the stand-in in place of every algorithm that reads inputs."""
    return plan.but({key: _stand_in(decision) for key, decision in plan.items() if reads_inputs(decision)})


def _stand_in(decision: Decision) -> Decision:
    spec = decision.weighted
    stand_in = ALGORITHMS[spec.weights.algorithm].stand_in
    return replace(decision, spec=spec.with_weights(algorithm=stand_in, options=()))
