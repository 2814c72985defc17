"""Places where a graph scales and shifts channels by constants, and the linear operators that read them.

Batch norm after an activation function is left by the converter as MUL and ADD: y[c] = scale[c] * x[c] + shift[c].
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tfq_converters.graph import Float64Array, Op, Subgraph
from tfq_converters.operators import data_slot, facts_of, fuses, groups_of, padding_of, weight_axes
from tfq_fine.transforms.channel_scaling import flattened, keeps_last, value_readers


@dataclass(frozen=True)
class ChannelAffine:
    """y = scale * x + shift, in one operator or several in a row."""

    source: int  # tensor x
    result: int  # tensor y
    ops: tuple[int, ...]
    scale: Float64Array  # float64 [C]
    shift: Float64Array  # float64 [C]


@dataclass(frozen=True)
class Leaf:
    """A linear operator that reads an activation, perhaps pooled or reshaped."""

    op: int
    repeats: int  # its inputs are the channels so many times over (flattened pixels)
    pads: bool  # zeros next to the activation reach it: they are not shifted


@dataclass(frozen=True)
class Leaves:
    """All that reads an activation in the end, and how."""

    leaves: tuple[Leaf, ...]
    ordered: bool  # operators in between take the largest value: the scale must be positive


def channel_affines(main: Subgraph) -> Iterator[ChannelAffine]:
    """Yield every maximal row of MUL, ADD and SUB with constants per channel."""
    taken: set[int] = set()
    for o in range(len(main.ops)):
        affine = None if o in taken else _affine(main, o)
        if affine is None:
            continue
        while (following := _next(main, affine)) is not None:
            affine = _joined(affine, following)
        taken |= {*affine.ops}
        yield affine


def _affine(main: Subgraph, o: int) -> ChannelAffine | None:
    op = main.ops[o]
    if not facts_of(op.code).affine or fuses(op) or len(op.inputs) != 2:
        return None
    constants = [slot for slot, t in enumerate(op.inputs) if main.tensors[t].is_constant]
    if len(constants) != 1:
        return None
    (slot,) = constants
    source, result, data = op.inputs[1 - slot], op.outputs[0], main.tensors[op.inputs[slot]].constant
    shape = main.tensors[result].shape
    per_channel = data.dtype == np.float32 and all(size == 1 for size in data.shape[:-1])
    if not per_channel or not shape or main.tensors[source].shape != shape or data.ndim > len(shape):
        return None
    values = np.broadcast_to(data.reshape(-1).astype(np.float64), shape[-1:])
    one, zero = np.ones(shape[-1]), np.zeros(shape[-1])
    if op.code == "MUL":
        return ChannelAffine(source, result, (o,), values, zero)
    if op.code == "SUB":
        return ChannelAffine(source, result, (o,), *((one, -values) if slot == 1 else (-one, values)))
    return ChannelAffine(source, result, (o,), one, values)


def _next(main: Subgraph, found: ChannelAffine) -> ChannelAffine | None:
    readers = value_readers(main, found.result)
    if found.result in main.outputs or len(readers) != 1:
        return None
    return _affine(main, readers[0][0])


def _joined(first: ChannelAffine, then: ChannelAffine) -> ChannelAffine:
    scale, shift = first.scale * then.scale, first.shift * then.scale + then.shift
    return ChannelAffine(first.source, then.result, (*first.ops, *then.ops), scale, shift)


def leaves_of(main: Subgraph, tensor: int) -> Leaves | str:
    """Return the linear operators that read `tensor` through movers and averages; or why it ends elsewhere."""
    leaves: list[Leaf] = []
    ordered = False
    channels = main.tensors[tensor].shape[-1]
    open_tensors = [(tensor, False)]  # tensor, whether zeros were added
    while open_tensors:
        t, pads = open_tensors.pop()
        if t in main.outputs:
            return f"{main.tensors[t].name} is an output"
        for o, slot in value_readers(main, t):
            op = main.ops[o]
            unknown = t != tensor and main.tensors[t].dynamic_shape[-1:] == (-1,)
            if facts_of(op.code).weight is not None:
                leaf = _leaf(main, o, slot, channels, pads)
                if leaf is None or (unknown and op.code != "FULLY_CONNECTED"):
                    return f"{main.op_name(o)} reads {main.tensors[t].name} otherwise"
                leaves.append(leaf)
                continue
            if unknown or not _passes(main, op, slot):
                return f"{main.op_name(o)} reads {main.tensors[t].name}"
            ordered |= facts_of(op.code).largest
            open_tensors.append((op.outputs[0], pads or op.code == "PAD"))
    return Leaves(tuple(leaves), ordered)


def _passes(main: Subgraph, op: Op, slot: int) -> bool:
    """Return whether the channels pass `op`: its result's last axis holds them, perhaps several times over.

    A reshape whose last axis is computed passes them to FULLY_CONNECTED, which cuts what it reads into rows of its own.
    """
    if slot != 0 or fuses(op):
        return False
    before, after = (main.tensors[t] for t in (op.inputs[0], op.outputs[0]))
    if op.code == "RESHAPE":
        return after.dynamic_shape[-1:] == (-1,) or flattened(before.shape, after.shape) is not None
    if op.code == "MEAN" and not keeps_last(op, main):
        return False
    facts = facts_of(op.code)
    passes = facts.averages or facts.largest or op.code == "PAD"
    return passes and before.shape[-1:] == after.shape[-1:]


def _leaf(main: Subgraph, o: int, slot: int, channels: int, pads: bool) -> Leaf | None:
    op = main.ops[o]
    axes = weight_axes(op, main)
    if not axes or slot != data_slot(op.code):
        return None
    weight = main.tensors[op.inputs[axes[0].slot]].shape
    if axes[0].inputs is None:
        return Leaf(o, 1, pads or _window_pads(main, op)) if weight[axes[0].channel] % channels == 0 else None
    inputs = weight[axes[0].inputs] * groups_of(op, main)
    if inputs % channels:
        return None
    return Leaf(o, inputs // channels, pads or _window_pads(main, op))


def _window_pads(main: Subgraph, op: Op) -> bool:
    """Return whether zeros next to the input reach the sums of a convolution; of a transposed one, missing terms do."""
    if op.code == "FULLY_CONNECTED":
        return False
    if op.code == "TRANSPOSE_CONV":
        return True
    window = main.tensors[op.inputs[1]].shape[1:3]
    return padding_of(op) == "SAME" and window != (1, 1)
