"""Residual streams: activations that matrices write to, and that nothing but RMS norms and matrices read.

    x = E[ids] + p + sum_k W_k h_k        y = gamma * x / rms(x)        W y

A rotation of x changes neither rms(x) nor, once gamma is part of the W that reads y, anything else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfq_converters.graph import ABSENT, Op, Subgraph
from tfq_converters.operators import data_of, fuses, weight_axes
from tfq_fine.transforms.channel_affine import Leaf, Leaves, leaves_of
from tfq_fine.transforms.channel_scaling import constant_slot, has_own_table, scalable_input, value_readers


@dataclass(frozen=True)
class RmsNorm:
    """y = gamma * x / rms(x), and what reads y.

    Attributes:
        ops: the operators that read x.
        gamma: the operator that multiplies with gamma [C]; None where there is none.
        leaves: the linear operators that read y.
    """

    ops: frozenset[int]
    gamma: int | None
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True)
class ResidualStream:
    """The activations of one width that a rotation turns together.

    Attributes:
        tensors: the activations.
        writers: linear operators whose output channels they hold, and lookups in tables.
        added: operators that add a constant [..., C].
        norms: the norms that read them.
        leaves: linear operators that read them without a norm.
    """

    tensors: frozenset[int]
    writers: tuple[int, ...]
    added: tuple[int, ...]
    norms: tuple[RmsNorm, ...]
    leaves: tuple[Leaf, ...]

    @property
    def matrices(self) -> tuple[int, ...]:
        """The linear operators whose weights a rotation changes."""
        return (*self.writers, *(leaf.op for leaf in (*self.leaves, *(leaf for n in self.norms for leaf in n.leaves))))


def residual_streams(main: Subgraph) -> list[ResidualStream]:
    """Return the residual streams of which all that writes or reads them can be rotated."""
    norms: dict[int, list[RmsNorm]] = {}
    for o, op in enumerate(main.ops):
        if op.code == "RSQRT" and (pair := _rms_norm(main, o)) is not None:
            norms.setdefault(pair[0], []).append(pair[1])
    streams: list[ResidualStream] = []
    for x in norms:
        if not any(x in stream.tensors for stream in streams):
            stream = _stream(main, x, norms)
            streams += [] if stream is None else [stream]
    return streams


def _rms_norm(main: Subgraph, rsqrt: int) -> tuple[int, RmsNorm] | None:
    """Return (x, its norm) where the operator is the reciprocal of the root mean square of the channels of x."""
    squared = _squared(main, rsqrt)
    first = _only_product(main, main.ops[rsqrt].outputs[0])
    if squared is None or first is None:
        return None
    x, square = squared
    product, other = first
    second = _only_product(main, main.ops[product].outputs[0])
    gamma: int | None = None
    if other == x:  # (x * r) * gamma
        last = reads_x = product
        if second is not None and _is_gamma(main, second[1], x):
            gamma = last = second[0]
    elif _is_gamma(main, other, x) and second is not None and second[1] == x:  # x * (r * gamma)
        gamma, last = product, second[0]
        reads_x = last
    else:
        return None
    leaves = _rotatable(main, main.ops[last].outputs[0])
    return None if leaves is None else (x, RmsNorm(frozenset({square, reads_x}), gamma, leaves))


def _squared(main: Subgraph, rsqrt: int) -> tuple[int, int] | None:
    """Return (x, the operator that squares it) before MEAN over channels, ADD of a constant and RSQRT."""
    add = _producer(main, main.ops[rsqrt].inputs[0], "ADD")
    slot = None if add is None else constant_slot(main.tensors, add)
    mean = None if add is None or slot is None else _producer(main, add.inputs[1 - slot], "MEAN")
    if mean is None or not _over_channels(main, mean):
        return None
    o = main.producers().get(mean.inputs[0])
    if o is None:
        return None
    square = main.ops[o]
    is_square = square.code == "SQUARE" or (square.code == "MUL" and len(set(square.inputs)) == 1)
    return (square.inputs[0], o) if is_square and not fuses(square) else None


def _over_channels(main: Subgraph, mean: Op) -> bool:
    axes, rank = main.tensors[mean.inputs[1]].data, len(main.tensors[mean.inputs[0]].shape)
    return axes is not None and [axis % rank for axis in axes.reshape(-1).tolist()] == [rank - 1]


def _producer(main: Subgraph, tensor: int, code: str) -> Op | None:
    o = main.producers().get(tensor)
    return main.ops[o] if o is not None and main.ops[o].code == code and not fuses(main.ops[o]) else None


def _only_product(main: Subgraph, tensor: int) -> tuple[int, int] | None:
    """Return (the MUL that alone reads a tensor, its other operand)."""
    readers = value_readers(main, tensor)
    if len(readers) != 1 or tensor in main.outputs:
        return None
    o, slot = readers[0]
    op = main.ops[o]
    return (o, op.inputs[1 - slot]) if op.code == "MUL" and not fuses(op) else None


def _is_gamma(main: Subgraph, tensor: int, x: int) -> bool:
    constant, channels = main.tensors[tensor], main.tensors[x].shape[-1]
    return constant.data is not None and constant.data.size == channels == constant.shape[-1]


def _rotatable(main: Subgraph, tensor: int) -> tuple[Leaf, ...] | None:
    """Return the matrices that alone read an activation."""
    leaves = leaves_of(main, tensor)
    if not isinstance(leaves, Leaves) or leaves.ordered:
        return None
    whole = all(main.ops[leaf.op].code == "FULLY_CONNECTED" and leaf.repeats == 1 for leaf in leaves.leaves)
    return leaves.leaves if whole else None


def _stream(main: Subgraph, start: int, norms: Mapping[int, Sequence[RmsNorm]]) -> ResidualStream | None:
    """Return all activations that turn together with `start`; None where one of them must not be turned."""
    channels, tensors = main.tensors[start].shape[-1], {start}
    writers: set[int] = set()
    added: set[int] = set()
    leaves: set[Leaf] = set()
    waiting = [start]
    while waiting:
        t = waiting.pop()
        o = main.producers().get(t)
        if o is None or t in main.outputs or main.tensors[t].shape[-1:] != (channels,) or fuses(main.ops[o]):
            return None
        slot = constant_slot(main.tensors, main.ops[o])
        if _writes(main, o):
            writers.add(o)
        elif main.ops[o].code == "ADD":
            if slot is not None and main.tensors[main.ops[o].inputs[slot]].shape[-1:] != (channels,):
                return None
            added |= set() if slot is None else {o}
        elif not _passes(main, o):
            return None
        following = [] if o in writers else [u for u in _operands(main, o) if not main.tensors[u].is_constant]
        of_norms = {reader for norm in norms.get(t, ()) for reader in norm.ops}
        for reader, _ in value_readers(main, t):
            op = main.ops[reader]
            if reader in of_norms:
                continue
            if op.code == "ADD" or _passes(main, reader):
                following.extend(op.outputs)
            elif op.code == "FULLY_CONNECTED" and weight_axes(op, main) and data_of(op) == t:
                leaves.add(Leaf(reader, 1, False))
            else:
                return None
        waiting.extend(u for u in dict.fromkeys(following) if u not in tensors)
        tensors |= set(following)
    every = tuple(norm for t in sorted(tensors) for norm in norms.get(t, ()))
    return ResidualStream(frozenset(tensors), tuple(sorted(writers)), tuple(sorted(added)), every, tuple(leaves))


def _operands(main: Subgraph, o: int) -> Sequence[int]:
    return main.ops[o].inputs if main.ops[o].code == "ADD" else main.ops[o].inputs[:1]


def _writes(main: Subgraph, o: int) -> bool:
    """Return whether the channels that an operator makes are rows or columns of a constant of its own."""
    op = main.ops[o]
    if op.code == "GATHER":
        return has_own_table(main, o)
    return op.code == "FULLY_CONNECTED" and scalable_input(op, main) == ABSENT


def _passes(main: Subgraph, o: int) -> bool:
    """Return whether an operator moves rows of channels as they are."""
    op = main.ops[o]
    if op.code != "RESHAPE":
        return False
    before, after = main.tensors[op.inputs[0]], main.tensors[op.outputs[0]]
    return before.dynamic_shape[-1:] == after.dynamic_shape[-1:] != (-1,)
