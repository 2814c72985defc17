"""From what a recipe asks to what every operator gets: a decision per operator, with the reason where it gets less."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tfq_converters import kernels
from tfq_converters.errors import raise_all
from tfq_converters.graph import ABSENT, Graph, Op, Subgraph
from tfq_converters.op_table import OPS
from tfq_converters.quantized import Mode, OpKey
from tfq_converters.realize.rewrites import REWRITES
from tfq_converters.realize.weight_only import READS_SHAPE
from tfq_converters.unrunnable import depends_on_unrunnable
from tfq_converters.weights import float_constants, weight_axes
from tfq_fine.granularity import PerChannel, PerTensor
from tfq_fine.indices import index_movers
from tfq_fine.specs import GRANULARITIES, OpSpec, WeightSpec

Prefer = Literal["speed", "size"]
HALF_MINIMUM = 64  # constants of fewer elements are not worth a DEQUANTIZE


@dataclass(frozen=True)
class Decision:
    """What one operator gets (None: it computes in float, over float constants), and why it is not what was asked."""

    spec: OpSpec | None
    reason: str = ""


Plan = Mapping[OpKey, Decision]
FLOAT = Decision(None)


def touches_float(op: Op, subgraph: Subgraph) -> bool:
    """Whether quantization concerns `op`: it reads or writes float values."""
    tensors = [subgraph.tensors[t] for t in (*op.inputs, *op.outputs) if t >= 0]
    return op.code not in READS_SHAPE and any(tensor.dtype == "float32" for tensor in tensors)


def make_plan(graph: Graph, asked: Mapping[OpKey, OpSpec | None]) -> Plan:
    """What the kernels can give of what is asked.

    Raises:
        TfqError: an operator is asked for weights that no kernel computes; all such operators are listed.
    """
    problems: list[str] = []
    plan = {}
    unknown, indices = depends_on_unrunnable(graph), index_movers(graph.main)
    for key, op in graph.ops():
        spec = asked[key]
        subgraph = graph.subgraphs[key[0]]
        if spec is None:
            plan[key] = Decision(None, "the recipe keeps it float") if touches_float(op, subgraph) else FLOAT
        elif spec.mode == "float":
            plan[key] = FLOAT
        else:
            beyond = _beyond_calibration(key, op, unknown)
            if key[0] == 0 and key[1] in indices:
                beyond = "it moves an index, which must not be rounded"
            plan[key] = _DECIDE[spec.mode](op, subgraph, spec, beyond)
            problems += _refused(op, subgraph, key[1], plan[key].spec)
    raise_all(problems)
    return plan


def _beyond_calibration(key: OpKey, op: Op, unknown: set[int]) -> str:
    """Why the ranges of an operator cannot be known; "" when they can."""
    if key[0] > 0:
        return "it is inside a control-flow body, or in another signature"
    if not unknown.isdisjoint(op.inputs) or not unknown.isdisjoint(op.outputs):
        return "it comes after an operator that no runtime here executes"
    return ""


def _half(op: Op, subgraph: Subgraph, spec: OpSpec, beyond: str) -> Decision:
    large = [s for s in float_constants(op, subgraph) if subgraph.tensors[op.inputs[s]].data.size >= HALF_MINIMUM]  # type: ignore[union-attr]
    return Decision(spec) if large else FLOAT


def _weights(op: Op, subgraph: Subgraph, spec: OpSpec, beyond: str) -> Decision:
    if not weight_axes(op, subgraph):
        return FLOAT
    modes = kernels.table()["correct"].get(op.code, {})
    if modes.get(spec.mode):
        return Decision(_supported_granularity(op, spec))
    other: Mode = "weight_only" if spec.mode == "dynamic" else "dynamic"
    if modes.get(other):
        given = replace(spec, mode=other)
        return Decision(_supported_granularity(op, given), f"{op.code} has no {spec.mode.replace('_', '-')} kernel")
    return Decision(None, f"{op.code} has no kernel for quantized weights")


def _integer(op: Op, subgraph: Subgraph, spec: OpSpec, beyond: str) -> Decision:
    assert spec.activations is not None
    if not touches_float(op, subgraph):
        return FLOAT
    reason = beyond or _no_integer_kernel(op, subgraph, spec.activations.bits)
    given = _supported_granularity(op, spec)
    if not reason and op.code == "GATHER" and weight_axes(op, subgraph):
        reason = _refusal(op, given)  # a table can always be looked up in float
    if not reason:
        return Decision(given)
    dynamic = _weights(op, subgraph, OpSpec("dynamic", spec.weights), beyond)
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
        return "it reads no activation" if op.code in REWRITES else ""
    if row.distinct is not None and not _are_distinct(subgraph.tensors[op.inputs[row.distinct]].data):
        return f"the int{bits} kernel of {op.code} is wrong where indices repeat, as its may"
    if row.max_rank is not None and len(data.shape) > row.max_rank:
        return f"the int{bits} kernel of {op.code} takes at most rank {row.max_rank}, it has {len(data.shape)}"
    if row.reference_row is not None and bits == 8 and data.shape[-1:] > (row.reference_row,):
        return f"the int8 {op.code} over {data.shape[-1]} values aborts the process on the reference kernels"
    for slot in (row.weight, row.bias):
        tensor = op.inputs[slot] if slot is not None and slot < len(op.inputs) else ABSENT
        if tensor != ABSENT and not subgraph.tensors[tensor].is_constant:
            return f"its {'weight' if slot == row.weight else 'bias'} is not a constant"
    return ""


def _are_distinct(indices: np.ndarray | None) -> bool:
    """Whether no row of `indices` [..., depth] appears twice; not when they are computed."""
    if indices is None:
        return False
    rows = indices.reshape(-1, indices.shape[-1])
    return len(np.unique(rows, axis=0)) == len(rows)


def _supported_granularity(op: Op, spec: OpSpec) -> OpSpec:
    """Per-channel becomes per-tensor where the kernel has one scale (documented per operator in the report)."""
    assert spec.weights is not None
    if spec.weights.granularity == PerChannel() and _refusal(op, spec) and spec.weights.bits == 8:
        coarser = replace(spec, weights=replace(spec.weights, granularity=PerTensor()))
        return spec if _refusal(op, coarser) else coarser
    return spec


def _refusal(op: Op, spec: OpSpec) -> str:
    weights: WeightSpec | None = spec.weights
    assert weights is not None
    name = next(name for name, kind in GRANULARITIES.items() if isinstance(weights.granularity, kind))
    activations = spec.activations.bits if spec.activations else None
    return kernels.refusal(op.code, spec.mode, weights.bits, name, activations)


def _refused(op: Op, subgraph: Subgraph, index: int, spec: OpSpec | None) -> list[str]:
    if spec is None or spec.weights is None or not weight_axes(op, subgraph):
        return []
    reason = _refusal(op, spec)
    if not reason and not spec.weights.symmetric and spec.mode != "weight_only":
        reason = "asymmetric weights are computed in mode weight_only alone; use symmetric=True"
    return [f"{subgraph.op_name(index)}: {reason}"] if reason else []
