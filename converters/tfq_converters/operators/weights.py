"""Weights and biases of the operators of a graph: their tensors, axes and groups."""

import numpy as np

from tfq_converters.graph import ABSENT, Op, Subgraph
from tfq_converters.operators.facts import WeightAxes, facts_of


def data_slot(code: str) -> int:
    """Return the slot of the activation that a linear operator reads."""
    slots = facts_of(code).data
    return slots[0] if slots else 0


def bias_slot(code: str) -> int:
    """Return the slot of the bias of a linear operator that may have one.

    Raises:
        TypeError: the operator has no bias.
    """
    slot = facts_of(code).bias
    if slot is None:
        raise TypeError(f"{code} has no bias")
    return slot


def data_of(op: Op) -> int:
    """Return the activation that a linear operator reads."""
    return op.inputs[data_slot(op.code)]


def bias_of(op: Op) -> int:
    """Return the bias of a linear operator; ABSENT when it has none."""
    slot = facts_of(op.code).bias
    return ABSENT if slot is None or slot >= len(op.inputs) else op.inputs[slot]


def weight_axes(op: Op, subgraph: Subgraph) -> tuple[WeightAxes, ...]:
    """Return the constant float weights of `op` that have elements, with non-negative axes; empty when it has none."""
    axes = []
    for row in facts_of(op.code).weights:
        tensor = op.inputs[row.slot] if row.slot < len(op.inputs) else ABSENT
        if tensor == ABSENT or not _is_float_constant(subgraph, tensor) or 0 in subgraph.tensors[tensor].shape:
            continue
        rank = len(subgraph.tensors[tensor].shape)
        if op.code == "GATHER" and (rank != 2 or op.option("axis") != 0 or op.option("batchDims")):
            continue
        if op.code == "BATCH_MATMUL":
            swapped = bool(op.option("adjY"))
            row = WeightAxes(1, rank - 2 if swapped else rank - 1, rank - 1 if swapped else rank - 2)
        axes.append(row)
    return tuple(axes)


def groups_of(op: Op, subgraph: Subgraph) -> int:
    """Return the number of groups of a CONV_2D; each group sees its own slice of the input channels."""
    if op.code != "CONV_2D":
        return 1
    return subgraph.tensors[data_of(op)].shape[3] // subgraph.tensors[op.inputs[1]].shape[3]


def channels_of(subgraph: Subgraph, tensor: int) -> int:
    """Return the channels of an activation: the size of its last axis, or what its readers have if that is unknown."""
    activation = subgraph.tensors[tensor]
    if activation.dynamic_shape[-1:] != (-1,):
        return activation.shape[-1]
    for op in subgraph.ops:
        axes = weight_axes(op, subgraph) if tensor in op.inputs else ()
        if axes and data_of(op) == tensor and axes[0].inputs is not None:
            return subgraph.tensors[op.inputs[axes[0].slot]].shape[axes[0].inputs] * groups_of(op, subgraph)
    return activation.shape[-1]


def is_pointwise(op: Op, subgraph: Subgraph) -> bool:
    """Return whether `op` is a convolution with a 1x1 window over all input channels: a matrix product per pixel."""
    if op.code != "CONV_2D":
        return False
    return subgraph.tensors[op.inputs[1]].shape[1:3] == (1, 1) and groups_of(op, subgraph) == 1


def float_constants(op: Op, subgraph: Subgraph) -> tuple[int, ...]:
    """Return the input slots of `op` that hold float constants."""
    return tuple(slot for slot, t in enumerate(op.inputs) if t != ABSENT and _is_float_constant(subgraph, t))


def _is_float_constant(subgraph: Subgraph, tensor: int) -> bool:
    constant = subgraph.tensors[tensor]
    return constant.data is not None and constant.dtype == "float32" and isinstance(constant.data, np.ndarray)
