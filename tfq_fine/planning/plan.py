"""The plan: from what a recipe asks to what every operator gets, with the reason where it gets less."""

from collections.abc import Mapping

from tfq_converters.errors import raise_all
from tfq_converters.graph import ABSENT, Graph, Op, Subgraph
from tfq_converters.operators import float_constants
from tfq_converters.quantized import OpKey
from tfq_converters.runtime import depends_on_unrunnable
from tfq_fine.calibration import loop_operators
from tfq_fine.planning.checks import spec_problems, with_statistics
from tfq_fine.planning.choice import Choice
from tfq_fine.planning.decision import (
    DEFAULT_POLICY,
    FLOAT,
    HALF_MINIMUM,
    Decision,
    Plan,
    Policy,
    touches_float,
)
from tfq_fine.planning.index_paths import index_movers
from tfq_fine.request import OpSpec, PerChannel, WeightedSpec


def make_plan(
    graph: Graph,
    requested: Mapping[OpKey, OpSpec | None],
    policy: Policy = DEFAULT_POLICY,
    factored: Mapping[OpKey, str] | None = None,
    unfolded: Mapping[OpKey, str] | None = None,
) -> Plan:
    """Return what the kernels can give of what is requested.

    Args:
        graph: the float graph.
        requested: what the recipe requests of every operator.
        policy: what to do where that is impossible, or slow.
        factored: operators whose blocks became per-channel scales, the rest of them folded into what makes their
            inputs -> a note on that.
        unfolded: operators where that was not possible, or not better -> why.

    Raises:
        TfqError: an operator is asked for weights that no kernel computes; all such operators are listed.
    """
    problems = spec_problems(requested.values())
    raise_all(problems)
    plan = {}
    unknown, indices = depends_on_unrunnable(graph), index_movers(graph.main)
    for key, op in graph.ops():
        spec = requested[key]
        subgraph = graph.subgraphs[key[0]]
        if spec is None:
            plan[key] = Decision(None, "the recipe keeps it float") if touches_float(op, subgraph) else FLOAT
        elif not isinstance(spec, WeightedSpec):
            half = _half(op, subgraph, spec, policy) if spec.mode == "float16" else FLOAT
            if isinstance(half, str):
                problems.append(f"{subgraph.op_name(key[1])}: {half}")
            else:
                plan[key] = half
        else:
            if factored and key in factored:
                spec = spec.with_weights(granularity=PerChannel())
            spec, unread = with_statistics(spec, key, op, subgraph, unknown, loop_operators(graph))
            beyond = _beyond_calibration(key, op, subgraph, unknown)
            if key[0] == 0 and key[1] in indices:
                beyond = "it moves indices, which must not be rounded"
            choice = Choice(op, subgraph, policy, beyond)
            decision = choice.decide(spec)
            if isinstance(decision, str):
                problems.append(f"{subgraph.op_name(key[1])}: {decision}")
            else:
                notes = (factored or {}).get(key) or (unfolded or {}).get(key, ""), unread if decision.spec else ""
                plan[key] = decision.because("; ".join(filter(None, notes))) if any(notes) else decision
    raise_all(problems)
    return Plan(plan)


def _beyond_calibration(key: OpKey, op: Op, subgraph: Subgraph, unknown: set[int]) -> str:
    """Return why the ranges of an operator cannot be known; "" when they can."""
    if key[0] > 0:
        return "it is inside a control-flow body, or in another signature"
    if not unknown.isdisjoint(op.inputs) or not unknown.isdisjoint(op.outputs):
        return "it comes after an operator that no runtime here executes"
    if any(0 in subgraph.tensors[t].shape for t in (*op.inputs, *op.outputs) if t != ABSENT):
        return "one of its tensors has no elements"
    return ""


def half_of(op: Op, subgraph: Subgraph) -> OpSpec | None:
    """Return how an operator holds its constants in float16; None where none of them is large enough to be worth it."""
    large = [s for s in float_constants(op, subgraph) if subgraph.tensors[op.inputs[s]].data.size >= HALF_MINIMUM]  # type: ignore[union-attr]
    return OpSpec("float16") if large else None


def _half(op: Op, subgraph: Subgraph, spec: OpSpec, policy: Policy) -> Decision | str:
    if half_of(op, subgraph) is None:
        return FLOAT
    problem = policy.target.no_float16
    if problem:
        return Decision(None, problem) if policy.flexible else f"{problem}; nearest: float"
    return Decision(spec, form="dequantize")
