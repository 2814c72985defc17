"""From what a recipe asks to what every operator gets: a decision per operator, with the reason where it gets less."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from tfq_converters import kernels
from tfq_converters.errors import raise_all
from tfq_converters.graph import ABSENT, Graph, Op, Subgraph
from tfq_converters.kernels import Target
from tfq_converters.op_table import OPS
from tfq_converters.quantized import Mode, OpKey
from tfq_converters.realize.weight_only import READS_SHAPE
from tfq_converters.unrunnable import depends_on_unrunnable
from tfq_converters.weights import float_constants, weight_axes
from tfq_fine.granularity import PerChannel, PerTensor
from tfq_fine.specs import GRANULARITIES, OpSpec, WeightSpec

Prefer = Literal["speed", "size"]
OnUnsupported = Literal["error", "fallback"]
NOT_YET = "blocks of inputs are not written yet; use PerChannel()"
HALF_MINIMUM = 64  # constants of fewer elements are not worth a DEQUANTIZE


@dataclass(frozen=True)
class Decision:
    """What one operator gets (None: it computes in float, over float constants), and why it is not what was asked."""

    spec: OpSpec | None
    reason: str = ""


Plan = Mapping[OpKey, Decision]
FLOAT = Decision(None)


def touches_float(op: Op, subgraph: Subgraph) -> bool:
    """Whether quantization concerns `op`: it reads float values."""
    return op.code not in READS_SHAPE and any(subgraph.tensors[t].dtype == "float32" for t in op.inputs if t >= 0)


def make_plan(
    graph: Graph,
    asked: Mapping[OpKey, OpSpec | None],
    target: Target | None = None,
    on_unsupported: OnUnsupported = "error",
) -> Plan:
    """What the kernels can give of what is asked.

    Args:
        graph: the float graph.
        asked: the spec of every operator.
        target: where the file must run.
        on_unsupported: for weights that some kernel there does not compute, "fallback" takes the nearest that all do.

    Raises:
        TfqError: with "error", an operator is asked for such weights; all such operators are listed.
    """
    where = target or Target()
    problems: list[str] = []
    plan = {}
    unknown = depends_on_unrunnable(graph)
    for key, op in graph.ops():
        spec = asked[key]
        subgraph = graph.subgraphs[key[0]]
        if spec is None:
            plan[key] = Decision(None, "the recipe keeps it float") if touches_float(op, subgraph) else FLOAT
        elif spec.mode == "float":
            plan[key] = FLOAT
        else:
            decided = _DECIDE[spec.mode](op, subgraph, spec, _beyond_calibration(key, op, unknown), where)
            problem = _refused(op, subgraph, decided.spec, where)
            if problem and (on_unsupported == "error" or problem == NOT_YET):
                problems.append(f"{subgraph.op_name(key[1])}: {problem}")
            elif problem:
                decided = _nearest(op, subgraph, decided, problem, where)
            plan[key] = decided
    raise_all(problems)
    return plan


def _beyond_calibration(key: OpKey, op: Op, unknown: set[int]) -> str:
    """Why the ranges of an operator cannot be known; "" when they can."""
    if key[0] > 0:
        return "it is inside a control-flow body, or in another signature"
    if not unknown.isdisjoint(op.inputs) or not unknown.isdisjoint(op.outputs):
        return "it comes after an operator that no runtime here executes"
    return ""


def _half(op: Op, subgraph: Subgraph, spec: OpSpec, beyond: str, target: Target) -> Decision:
    large = [s for s in float_constants(op, subgraph) if subgraph.tensors[op.inputs[s]].data.size >= HALF_MINIMUM]  # type: ignore[union-attr]
    return Decision(spec) if large else FLOAT


def _weights(op: Op, subgraph: Subgraph, spec: OpSpec, beyond: str, target: Target) -> Decision:
    if not weight_axes(op, subgraph):
        return FLOAT
    if kernels.somewhere(op.code, spec.mode, table=target.table):
        return Decision(_supported_granularity(op, spec, target))
    other: Mode = "weight_only" if spec.mode == "dynamic" else "dynamic"
    if kernels.somewhere(op.code, other, table=target.table):
        given = _supported_granularity(op, replace(spec, mode=other), target)
        return Decision(given, f"{op.code} has no {spec.mode.replace('_', '-')} kernel")
    return Decision(None, f"{op.code} has no kernel for quantized weights")


def _integer(op: Op, subgraph: Subgraph, spec: OpSpec, beyond: str, target: Target) -> Decision:
    assert spec.activations is not None
    if not touches_float(op, subgraph):
        return FLOAT
    reason = beyond or _no_integer_kernel(op, subgraph, spec.activations.bits)
    if not reason:
        return Decision(_supported_granularity(op, spec, target))
    dynamic = _weights(op, subgraph, OpSpec("dynamic", spec.weights), beyond, target)
    return replace(dynamic, reason=reason)


_DECIDE = {"float16": _half, "weight_only": _weights, "dynamic": _weights, "integer": _integer}


def _no_integer_kernel(op: Op, subgraph: Subgraph, bits: int) -> str:
    row = OPS.get(op.code)
    if row is None or not row.takes(f"int{bits}"):
        return f"{op.label} has no int{bits} kernel"
    tensors = [subgraph.tensors[t] for t in op.inputs if t >= 0]
    if any(tensor.is_variable for tensor in tensors):
        return "it keeps its state in a variable"
    data = next((tensor for tensor in tensors if tensor.dtype == "float32" and not tensor.is_constant), None)
    if data is None:
        return "it reads no activation"
    if row.max_rank is not None and len(data.shape) > row.max_rank:
        return f"the int{bits} kernel of {op.code} takes at most rank {row.max_rank}, it has {len(data.shape)}"
    if row.reference_row is not None and bits == 8 and data.shape[-1:] > (row.reference_row,):
        return f"the int8 {op.code} over {data.shape[-1]} values aborts the process on the reference kernels"
    for slot in (row.weight, row.bias):
        tensor = op.inputs[slot] if slot is not None and slot < len(op.inputs) else ABSENT
        if tensor != ABSENT and not subgraph.tensors[tensor].is_constant:
            return f"its {'weight' if slot == row.weight else 'bias'} is not a constant"
    return ""


def _supported_granularity(op: Op, spec: OpSpec, target: Target) -> OpSpec:
    """Per-channel becomes per-tensor where every kernel has one scale (documented per operator in the report)."""
    assert spec.weights is not None
    bits = spec.activations.bits if spec.activations else None
    if spec.weights.granularity == PerChannel() and spec.weights.bits == 8:
        kinds = ("per_channel", "per_tensor")
        if [kernels.somewhere(op.code, spec.mode, bits, kind, target.table) for kind in kinds] == [False, True]:
            return replace(spec, weights=replace(spec.weights, granularity=PerTensor()))
    return spec


def refused_weights(op: Op, subgraph: Subgraph, spec: OpSpec, target: Target) -> str:
    """Why the kernels of `target` would not compute `op` over the weights of `spec`; "" when they do."""
    assert spec.weights is not None
    activations = spec.activations.bits if spec.activations else None
    name, form = _name(spec.weights), kernels.form_of(op, subgraph)
    return kernels.refusal(op.code, spec.mode, spec.weights.bits, name, activations, target, form)


def _name(weights: WeightSpec) -> str:
    return next(name for name, kind in GRANULARITIES.items() if isinstance(weights.granularity, kind))


def _refused(op: Op, subgraph: Subgraph, spec: OpSpec | None, target: Target) -> str:
    if spec is None or spec.weights is None or not weight_axes(op, subgraph):
        return ""
    reason = refused_weights(op, subgraph, spec, target)
    if not reason and not spec.weights.symmetric and spec.mode != "weight_only":
        return "asymmetric weights are computed in mode weight_only alone; use symmetric=True"
    if not reason and _name(spec.weights) == "blocks":
        return NOT_YET
    return reason


def _nearest(op: Op, subgraph: Subgraph, decided: Decision, problem: str, target: Target) -> Decision:
    """What all kernels compute instead of what was decided; float when there is nothing."""
    spec = decided.spec
    assert spec is not None
    assert spec.weights is not None
    reason = f"{decided.reason}; {problem}" if decided.reason else problem
    bits = spec.activations.bits if spec.activations else None
    asked = (op.code, spec.mode, spec.weights.bits, _name(spec.weights), bits)
    near = kernels.nearest(*asked, target, kernels.form_of(op, subgraph))
    if near is None:
        return Decision(None, reason)
    same = near.granularity == _name(spec.weights)
    granularity = spec.weights.granularity if same else GRANULARITIES[near.granularity]()
    symmetric = spec.weights.symmetric or near.mode != "weight_only"
    weights = replace(spec.weights, bits=near.bits, granularity=granularity, symmetric=symmetric)
    mode: Mode = near.mode  # type: ignore[assignment]
    return Decision(OpSpec(mode, weights, spec.activations if mode == "integer" else None), reason)
