"""The plan for one kernel in a file: decided by the same planner that writes files, on a graph of one operator."""

from dataclasses import dataclass

import numpy as np

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, Op, Options, Subgraph, Tensor
from tfq_converters.operators import WeightAxes, weight_axes
from tfq_converters.quantized import Form
from tfq_fine.numerics import CodeFormat
from tfq_fine.planning import Decision, Policy, make_plan
from tfq_fine.request import IntegerSpec, OpSpec, WeightedSpec
from tfq_fine.weights import layout

_DATA, _WEIGHT, _OUTPUT = 0, 1, 2
_SLOTS = {"GATHER": (_WEIGHT, _DATA), "TRANSPOSE_CONV": (-1, _WEIGHT, _DATA)}  # operands of the others: data, weight
_OPTIONS = {"GATHER": Options("GatherOptions", {"axis": 0, "batchDims": 0})}


@dataclass(frozen=True)
class KernelPlan:
    """How a kernel is quantized in the file."""

    spec: WeightedSpec
    form: Form
    block: tuple[int, ...]  # the shape of values that share a scale, in the operator's axes
    codes: CodeFormat
    axes: WeightAxes
    reason: str = ""  # why it is not what was requested


def plan_kernel(
    op: str, shape: tuple[int, ...], spec: OpSpec, policy: Policy, groups: int = 1, loop: bool = False
) -> KernelPlan | None:
    """Return what the planner makes of `spec` for a weight of `shape`; None stands for float.

    Args:
        op: the operator's code.
        shape: the shape of its constant.
        spec: the requested spec.
        policy: the policy of the planner.
        groups: the number of groups of a grouped convolution.
        loop: whether the operator stands in the body of a loop.

    Raises:
        TfqError: no kernel computes that; says what is nearest.
    """
    if op == "GATHER" and isinstance(spec, IntegerSpec):  # rows of codes are looked up in float, whatever comes then
        spec = WeightedSpec("dynamic", spec.weights)
    graph = _one_operator(op, shape, groups)
    key = (0, 0)
    if loop:
        graph, key = Graph((Subgraph("main", (), (), (), ()), graph.main)), (1, 0)
    decision = make_plan(graph, {key: spec}, policy)[key]
    return _plan_of(decision, graph, key) if isinstance(decision.spec, WeightedSpec) else None


def _plan_of(decision: Decision, graph: Graph, key: tuple[int, int]) -> KernelPlan:
    subgraph = graph.subgraphs[key[0]]
    op = subgraph.ops[key[1]]
    (axes,) = weight_axes(op, subgraph)
    shape = subgraph.tensors[op.inputs[axes.slot]].shape
    block, codes = layout(shape, axes, decision.weighted.weights, decision.form)
    return KernelPlan(decision.weighted, decision.form, block, codes, axes, decision.reason)


def _one_operator(code: str, shape: tuple[int, ...], groups: int) -> Graph:
    if code not in ("FULLY_CONNECTED", "CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "GATHER"):
        raise TfqError(f"a kernel that becomes {code} in the file cannot be wrapped")
    inputs = {"CONV_3D": shape[-2], "GATHER": 1}.get(code, shape[-1])
    rank = {"FULLY_CONNECTED": 2, "GATHER": 1}.get(code, len(shape))
    tensors = (
        Tensor("data", (*(1,) * (rank - 1), inputs * groups), "int32" if code == "GATHER" else "float32"),
        Tensor("weight", shape, "float32", data=np.broadcast_to(np.float32(0), shape)),
        Tensor("output", (1,) * rank, "float32"),
    )
    op = Op(code, _SLOTS.get(code, (_DATA, _WEIGHT)), (_OUTPUT,), _OPTIONS.get(code), layer="layer")
    return Graph((Subgraph("main", tensors, (op,), (_DATA,), (_OUTPUT,)),))
