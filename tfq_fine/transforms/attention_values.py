"""Channels of values scaled through attention: A V W is linear in each channel of V = X W_v + b.

The output projection reads the merged heads. A channel of those is a weighted mean, over the tokens, of one channel of
the values, so that it is scaled by scaling a row of W_v and an element of b. Between the two lie the split into heads,
a transposition, the product with the attention weights, a transposition back and the merging of the heads.
"""

import numpy as np

from tfq_converters.graph import ABSENT, IntArray, Op, Subgraph
from tfq_converters.operators import data_of, facts_of, fuses
from tfq_fine.transforms.channel_scaling import constant_slot, scalable_input, value_readers


def value_makers(main: Subgraph, tensor: int) -> tuple[int, ...]:
    """Return the operators, last first, from merged heads back to the linear operator that makes the values.

    The list is empty where `tensor` [..., C] is made otherwise, where something else reads what is in between, or where
    channel c of it is not channel c of the values, such as with values that several heads share.
    """
    shape, producers = main.tensors[tensor].shape, main.producers()
    if not shape or main.tensors[tensor].dynamic_shape[-1] == -1:
        return ()
    channel: IntArray = np.arange(shape[-1], dtype=np.int32).reshape(
        [1] * (len(shape) - 1) + [-1]
    )  # which one a value is of
    makers: list[int] = []
    current, passed_attention = tensor, False
    while (o := producers.get(current)) is not None:
        op = main.ops[o]
        shared = current != tensor and (len(value_readers(main, current)) != 1 or current in main.outputs)
        if shared or fuses(op) or not np.array_equal(channel.reshape(-1), np.arange(shape[-1])):
            return ()
        makers.append(o)
        if facts_of(op.code).weight is not None:
            scales = channel.size == channel.shape[-1] and scalable_input(op, main) == ABSENT
            return tuple(makers) if passed_attention and scales else ()
        following = _input(main, op, channel)
        if following is None:
            return ()
        current, channel = following
        passed_attention |= op.code == "BATCH_MATMUL"
    return ()


def _input(main: Subgraph, op: Op, channel: IntArray) -> tuple[int, IntArray] | None:
    """Return the input of `op` that its channels come from, and which channel each value of it is of."""
    if op.code == "RESHAPE":
        return _reshaped(main, op, channel)
    if op.code == "TRANSPOSE":
        order = main.tensors[op.inputs[1]].data
        return None if order is None else (op.inputs[0], channel.transpose(np.argsort(order.reshape(-1))))
    if op.code == "BATCH_MATMUL":
        return _multiplied(main, op, channel)
    slot = constant_slot(main.tensors, op)
    if op.code == "ADD" and slot is not None and main.tensors[op.inputs[slot]].constant.size == channel.size:
        constant, source = op.inputs[slot], op.inputs[1 - slot]
        rank = len(main.tensors[constant].shape)
        same = channel.shape[channel.ndim - rank :] == main.tensors[constant].shape
        return (source, channel) if same and main.tensors[source].shape == main.tensors[op.outputs[0]].shape else None
    return None


def _reshaped(main: Subgraph, op: Op, channel: IntArray) -> tuple[int, IntArray] | None:
    before, after = main.tensors[op.inputs[0]], main.tensors[op.outputs[0]]
    if np.prod(before.shape) != np.prod(after.shape):  # computed lengths
        return None
    every = np.broadcast_to(channel, after.shape).reshape(before.shape)
    for axis in range(every.ndim):
        first = every.take([0], axis)
        if (every == first).all():
            every = first
    lengths_known = all(length != -1 or every.shape[axis] == 1 for axis, length in enumerate(before.dynamic_shape))
    return (op.inputs[0], every) if lengths_known else None


def _multiplied(main: Subgraph, op: Op, channel: IntArray) -> tuple[int, IntArray] | None:
    """Return the operand of a product of two activations whose rows or columns are the channels."""
    if any(main.tensors[t].is_constant for t in op.inputs):
        return None
    slot, summed = (1, -2) if channel.shape[-2] == 1 else (0, -1)
    if channel.shape[summed] != 1:
        return None
    source = op.inputs[slot]
    moved = channel.swapaxes(-1, -2) if op.option("adjY" if slot else "adjX") else channel
    shape = main.tensors[source].shape
    fits = len(shape) == moved.ndim and all(n in (1, size) for n, size in zip(moved.shape, shape, strict=True))
    return (source, moved) if fits else None


def merged_heads(main: Subgraph) -> list[int]:
    """Return the activations of merged heads that linear operators read."""
    read = dict.fromkeys(data_of(op) for op in main.ops if op.code == "FULLY_CONNECTED")
    return [t for t in read if value_makers(main, t)]
