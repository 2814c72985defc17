"""Which inputs of an operator are weights, and which of their axes mean what."""

from dataclasses import dataclass

import numpy as np

from tfq_converters.graph import ABSENT, Op, Subgraph


@dataclass(frozen=True)
class WeightAxes:
    """One constant operand of a linear operator."""

    slot: int
    channel: int  # axis of the output channels (rows, for a table)
    inputs: int | None  # axis of the inputs that share an output channel; None where the kernel has no such axis


_LSTM = tuple(WeightAxes(slot, 0, 1) for slot in range(1, 9))
WEIGHTS: dict[str, tuple[WeightAxes, ...]] = {
    "FULLY_CONNECTED": (WeightAxes(1, 0, 1),),  # [N, K]
    "CONV_2D": (WeightAxes(1, 0, 3),),  # [O, h, w, I]
    "DEPTHWISE_CONV_2D": (WeightAxes(1, 3, None),),  # [1, h, w, C]
    "TRANSPOSE_CONV": (WeightAxes(1, 0, 3),),  # [O, h, w, I]
    "CONV_3D": (WeightAxes(1, 4, 3),),  # [d, h, w, I, O]
    "BATCH_MATMUL": (WeightAxes(1, -1, -2),),  # [..., K, N]; [..., N, K] when adjY
    "GATHER": (WeightAxes(0, 0, 1),),  # [rows, depth]
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _LSTM,
}


DATA_SLOT = {"TRANSPOSE_CONV": 2}  # of the activation of a linear operator; 0 for the others
BIAS_SLOT = {"FULLY_CONNECTED": 2, "CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "TRANSPOSE_CONV": 3}


def data_of(op: Op) -> int:
    """The activation that a linear operator reads."""
    return op.inputs[DATA_SLOT.get(op.code, 0)]


def bias_of(op: Op) -> int:
    """The bias of a linear operator; ABSENT when it has none."""
    slot = BIAS_SLOT.get(op.code)
    return ABSENT if slot is None or slot >= len(op.inputs) else op.inputs[slot]


def weight_axes(op: Op, subgraph: Subgraph) -> tuple[WeightAxes, ...]:
    """The constant float weights of `op` that have elements, with non-negative axes; empty when it has none."""
    found = []
    for row in WEIGHTS.get(op.code, ()):
        tensor = op.inputs[row.slot] if row.slot < len(op.inputs) else ABSENT
        if tensor == ABSENT or not _is_float_constant(subgraph, tensor) or 0 in subgraph.tensors[tensor].shape:
            continue
        rank = len(subgraph.tensors[tensor].shape)
        if op.code == "GATHER" and (rank != 2 or op.option("axis") != 0 or op.option("batchDims")):
            continue
        if op.code == "BATCH_MATMUL":
            swapped = bool(op.option("adjY"))
            row = WeightAxes(1, rank - 2 if swapped else rank - 1, rank - 1 if swapped else rank - 2)
        found.append(row)
    return tuple(found)


def groups_of(op: Op, subgraph: Subgraph) -> int:
    """Groups of a CONV_2D: each sees its own slice of the input channels."""
    if op.code != "CONV_2D":
        return 1
    return subgraph.tensors[data_of(op)].shape[3] // subgraph.tensors[op.inputs[1]].shape[3]


def channels_of(subgraph: Subgraph, tensor: int) -> int:
    """Channels of an activation: the size of its last axis; where the file does not know it, that its readers have."""
    found = subgraph.tensors[tensor]
    if found.dynamic_shape[-1:] != (-1,):
        return found.shape[-1]
    for op in subgraph.ops:
        axes = weight_axes(op, subgraph) if op.code in WEIGHTS and tensor in op.inputs else ()
        if axes and data_of(op) == tensor and axes[0].inputs is not None:
            return subgraph.tensors[op.inputs[axes[0].slot]].shape[axes[0].inputs] * groups_of(op, subgraph)
    return found.shape[-1]


def is_pointwise(op: Op, subgraph: Subgraph) -> bool:
    """Whether `op` is a convolution with a 1x1 window over all input channels: a matrix product per pixel."""
    if op.code != "CONV_2D":
        return False
    return subgraph.tensors[op.inputs[1]].shape[1:3] == (1, 1) and groups_of(op, subgraph) == 1


def float_constants(op: Op, subgraph: Subgraph) -> tuple[int, ...]:
    """The input slots of `op` that hold float constants."""
    return tuple(slot for slot, t in enumerate(op.inputs) if t != ABSENT and _is_float_constant(subgraph, t))


def _is_float_constant(subgraph: Subgraph, tensor: int) -> bool:
    found = subgraph.tensors[tensor]
    return found.data is not None and found.dtype == "float32" and isinstance(found.data, np.ndarray)
