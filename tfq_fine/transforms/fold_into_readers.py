"""Scales and shifts of an activation's channels folded into the weights and biases of what reads it."""

import numpy as np

from tfq_converters.graph import ABSENT, Float64Array, Subgraph
from tfq_converters.operators import bias_of, bias_slot, groups_of, weight_axes
from tfq_fine.transforms.channel_affine import Leaf
from tfq_fine.transforms.editing import Edit, along


def fold_into_reader(edit: Edit, main: Subgraph, leaf: Leaf, scale: Float64Array, shift: Float64Array) -> None:
    """Fold into the reader: W (s x + b) = (W s) x + W b."""
    op = main.ops[leaf.op]
    (axes,) = weight_axes(op, main)
    data = edit.data(leaf.op, axes.slot).astype(np.float64)
    if axes.inputs is None:
        each = data.shape[axes.channel] // len(scale)
        s, b = (along(np.repeat(values, each), axes.channel, data.ndim) for values in (scale, shift))
    else:
        s, b = (_seen(np.tile(v, leaf.repeats), data.shape, groups_of(op, main), axes.inputs) for v in (scale, shift))
    edit.own_constant(leaf.op, axes.slot, data * s)
    if shift.any():
        others = tuple(axis for axis in range(data.ndim) if axis != axes.channel)
        add_to_bias(edit, leaf.op, (data * b).sum(axis=others))


def _seen(values: Float64Array, shape: tuple[int, ...], groups: int, inputs: int) -> Float64Array:
    """Return values per input channel as the output channels of a weight [O, ..., I] see them: each group its own."""
    by_output = np.repeat(values.reshape(groups, -1), shape[0] // groups, axis=0)  # [O, I]
    return by_output.reshape([shape[axis] if axis in (0, inputs) else 1 for axis in range(len(shape))])


def add_to_bias(edit: Edit, o: int, more: Float64Array) -> None:
    """Add to the bias [O] of linear operator `o`, whether it has one or not."""
    present = bias_of(edit.ops[o]) != ABSENT
    before = edit.data(o, bias_slot(edit.ops[o].code)).reshape(-1) if present else 0.0
    edit.bias(o, (before + more).astype(np.float32))
    if edit.ops[o].code == "FULLY_CONNECTED":
        edit.last_axis(edit.ops[o].inputs[0], edit.data(o, 1).shape[1])
