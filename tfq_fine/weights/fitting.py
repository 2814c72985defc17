"""Companions of the fitting of weights, which change nothing in the file: who sees how far it is, and codes on disk."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tfq_converters.graph import Graph, Op, Subgraph
from tfq_converters.operators import groups_of, weight_axes
from tfq_converters.quantized import OpKey
from tfq_fine.algorithms import algorithm_of
from tfq_fine.planning import Plan
from tfq_fine.progress import Step, Steps, unseen
from tfq_fine.request import WeightedSpec, WeightSpec
from tfq_fine.weights.codes_on_disk import CodesOnDisk
from tfq_fine.weights.stand_ins import reads_inputs

PATCHES, SAMPLES = 16384, 100  # patches of the inputs whose moments are taken, at most; samples, about
VALUE, OPERATOR = 1000, 5 * 10**8  # multiply-adds that take as long as reading a value of a patch, and as an operator
BATCH = 32  # samples of a gradient step, at most
ROW = 16  # products that codes of one value take per input of its operator, about, and factors: sweeps and dampings


@dataclass(frozen=True)
class Fitting:
    """The companions of the fitting of weights.

    Attributes:
        steps: shows which operator's weights are being fitted, and the time left.
        on_disk: the codes that earlier jobs fitted, and those of this one; None where they are kept nowhere.
    """

    steps: Steps = unseen
    on_disk: CodesOnDisk | None = None


def fitting_steps(graph: Graph, plan: Plan) -> Mapping[OpKey, Step]:
    """Return the operators whose weights are fitted to their inputs, in order, and the multiply-adds that each takes.

    With K inputs of every output value, the moments take K^2 of them for every patch of the inputs, their factor some
    K^3, and the codes some K^2 for every row. Roundings that gradients learn take three passes of a batch in every
    step. What is no product counts as so many that take as long.
    """
    steps = {}
    for key, decision in plan.items():
        if not isinstance(decision.spec, WeightedSpec) or not reads_inputs(decision.spec.weights):
            continue
        op, subgraph = graph.subgraphs[key[0]].ops[key[1]], graph.subgraphs[key[0]]
        cost, positions = OPERATOR, _positions(op, subgraph)
        patches = min(PATCHES, SAMPLES * positions)
        for axes in weight_axes(op, subgraph):
            shape = subgraph.tensors[op.inputs[axes.slot]].shape
            rows, inputs = shape[axes.channel], math.prod(shape) // shape[axes.channel]
            groups = rows if axes.inputs is None else groups_of(op, subgraph)
            cost += groups * inputs * (patches * (inputs + VALUE) + ROW * inputs**2) + ROW * rows * inputs**2
            cost += _learning_cost(decision.spec.weights, positions * rows * inputs)
        steps[key] = Step(subgraph.op_name(key[1]), float(cost))
    return steps


def _positions(op: Op, subgraph: Subgraph) -> int:
    """Return the number of places of the output of one sample, each with a value for every channel."""
    shape = subgraph.tensors[op.outputs[0]].shape
    return max(math.prod(shape[:-1]), 1)


def _learning_cost(spec: WeightSpec, products: int) -> int:
    """Return the multiply-adds of the gradient steps for an operator that takes so many; 0 where none are taken."""
    row = algorithm_of(spec)
    if not row.learns:
        return 0
    return 3 * BATCH * int(row.with_defaults(dict(spec.options))["steps"]) * products
