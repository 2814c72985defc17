"""Scale the channels of an activation by constants and undo it in what reads it: the same function in other numbers.

x'[c] = x[c] * s[c] and W'[:, c] = W[:, c] / s[c] (Nagel et al. 2019, arXiv 1906.04721, section 4.1). Exact where x is
made by a linear operator, through ReLU and what else only moves, averages or clamps at zero, since s > 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfq_converters.graph import ABSENT, Float64Array, Graph, Op, Subgraph, Tensor
from tfq_converters.operators import (
    WeightAxes,
    bias_of,
    bias_slot,
    data_of,
    facts_of,
    fused_activation,
    groups_of,
    weight_axes,
)
from tfq_fine.transforms.editing import Edit, along

HOMOGENEOUS = ("NONE", "RELU")  # fused activations f with f(s x) = s f(x) for s > 0


@dataclass(frozen=True)
class Part:
    """Some channels of a concatenation, and the operators that make them, last first; none where they must stay."""

    channels: slice
    makers: tuple[int, ...]


@dataclass(frozen=True)
class ScalingPath:
    """A path on which an activation's channels can be scaled, and where that is undone."""

    tensor: int
    readers: tuple[int, ...]  # linear operators whose weights are divided
    makers: tuple[int, ...]  # operators, last first, between the one that is scaled (the last here) and the tensor
    repeats: int = 1  # the tensor has the channels so many times side by side: it is flattened
    parts: tuple[Part, ...] = ()  # the parts of the concatenation that the last of `makers` is

    @property
    def has_fixed(self) -> bool:
        """Whether some channels must stay what they are."""
        return any(not part.makers for part in self.parts)

    def with_fixed(self, scale: Float64Array) -> Float64Array:
        """Return factors [C] that leave the channels that must stay, and keep the others as far from those."""
        fixed = [part.channels for part in self.parts if not part.makers]
        middle = np.exp(np.log(np.concatenate([scale[channels] for channels in fixed])).mean())
        relative: Float64Array = scale / middle
        for channels in fixed:
            relative[channels] = 1.0
        return relative


def scaling_path(subgraph: Subgraph, tensor: int) -> ScalingPath | str:
    """Return how the channels (the last axis) of `tensor` can be scaled exactly; or why they cannot."""
    readers = tuple(dict.fromkeys(o for o, _ in value_readers(subgraph, tensor)))
    name = subgraph.tensors[tensor].name
    if tensor in subgraph.outputs:
        return f"{name} is an output"
    for o in readers:
        if not _divisible(subgraph.ops[o], subgraph, tensor):
            return f"{subgraph.op_name(o)} reads {name} too"
    makers = makers_of(subgraph, tensor, joined=True)
    if isinstance(makers, str):
        return makers
    last = subgraph.ops[makers[-1]]
    parts = _parts(subgraph, last) if last.code == "CONCATENATION" else ()
    if last.code == "CONCATENATION" and not any(part.makers for part in parts):
        return f"no part of {subgraph.op_name(makers[-1])} can be scaled"
    made = subgraph.tensors[last.outputs[0]].shape[-1]
    return ScalingPath(tensor, readers, makers, subgraph.tensors[tensor].shape[-1] // made, parts)


def _parts(subgraph: Subgraph, op: Op) -> tuple[Part, ...]:
    """Return the parts of a concatenation of channels."""
    parts, start = [], 0
    for t in op.inputs:
        channels = slice(start, start + subgraph.tensors[t].shape[-1])
        if channels.stop > start:  # a part may be empty
            parts.append(Part(channels, _makers_of_part(subgraph, t)))
        start = channels.stop
    return tuple(parts)


def _makers_of_part(subgraph: Subgraph, tensor: int) -> tuple[int, ...]:
    """Return the operators that can scale the channels of a part of a concatenation; none where there are none."""
    if len(value_readers(subgraph, tensor)) != 1 or tensor in subgraph.outputs:
        return ()
    producer = subgraph.producers().get(tensor)
    if producer is not None and has_own_table(subgraph, producer):
        return (producer,)
    makers = makers_of(subgraph, tensor)
    if isinstance(makers, str):
        return ()
    made = subgraph.tensors[subgraph.ops[makers[-1]].outputs[0]].shape[-1:]
    return makers if made == subgraph.tensors[tensor].shape[-1:] else ()


def has_own_table(subgraph: Subgraph, o: int) -> bool:
    """Return whether an operator looks up rows of a constant table that no other operator reads."""
    op = subgraph.ops[o]
    if op.code != "GATHER" or not weight_axes(op, subgraph):
        return False
    return len(subgraph.consumers()[op.inputs[weight_axes(op, subgraph)[0].slot]]) == 1


def value_readers(subgraph: Subgraph, tensor: int) -> list[tuple[int, int]]:
    """Return (op index, input slot) of all that read `tensor`, without those that read its shape alone."""
    readers = subgraph.consumers().get(tensor, [])
    return [(o, slot) for o, slot in readers if not facts_of(subgraph.ops[o].code).reads_shape]


def makers_of(subgraph: Subgraph, tensor: int, joined: bool = False) -> tuple[int, ...] | str:
    """Return the producers of `tensor`, last first, down to one that can scale its channels; or why there is none.

    Args:
        subgraph: the one that holds it.
        tensor: the activation.
        joined: a concatenation of channels may be the last, whose parts are scaled each by itself.
    """
    producers = subgraph.producers()
    makers: list[int] = []
    current = tensor
    while True:
        if current not in producers:
            return f"{subgraph.tensors[current].name} is an input"
        if current != tensor and (len(value_readers(subgraph, current)) != 1 or current in subgraph.outputs):
            return f"{subgraph.tensors[current].name} is read elsewhere too"
        o = producers[current]
        makers.append(o)
        if joined and _joins_channels(subgraph.ops[o], subgraph):
            return tuple(makers)
        following = scalable_input(subgraph.ops[o], subgraph)
        if isinstance(following, str):
            return f"{subgraph.op_name(o)}: {following}"
        if following == ABSENT:
            return tuple(makers)
        current = following


def _joins_channels(op: Op, subgraph: Subgraph) -> bool:
    """Return whether `op` concatenates activations along the channels (the last axis)."""
    if op.code != "CONCATENATION" or fused_activation(op) not in HOMOGENEOUS:
        return False
    rank = len(subgraph.tensors[op.outputs[0]].shape)
    return rank > 0 and op.option("axis") % rank == rank - 1


def _divisible(op: Op, subgraph: Subgraph, tensor: int) -> bool:
    """Return whether the weight of `op` can undo a scaling of `tensor`: it reads it as data, over all channels."""
    axes = weight_axes(op, subgraph)
    if facts_of(op.code).weight is None or not axes or data_of(op) != tensor:
        return False
    (row,) = axes
    if row.inputs is None:
        return True  # a depthwise convolution: one input channel for each of its windows
    inputs = subgraph.tensors[op.inputs[row.slot]].shape[row.inputs]
    return subgraph.tensors[tensor].shape[-1:] == (inputs,) and groups_of(op, subgraph) == 1


def scalable_input(op: Op, subgraph: Subgraph) -> int | str:
    """Return ABSENT where `op` can scale its output; the input to go on with; or why the scaling ends here."""
    if fused_activation(op) not in HOMOGENEOUS:
        return "its fused activation clips at a fixed value"
    if facts_of(op.code).weight is not None:
        constant = bias_of(op) == ABSENT or subgraph.tensors[bias_of(op)].data is not None
        return ABSENT if weight_axes(op, subgraph) and constant else "its weights are not constants"
    channels = subgraph.tensors[op.outputs[0]].shape[-1:]
    if op.code == "RESHAPE":
        whole = flattened(subgraph.tensors[op.inputs[0]].shape, subgraph.tensors[op.outputs[0]].shape)
        return "a scaling of channels does not pass through it" if whole is None else op.inputs[0]
    moves = facts_of(op.code).keeps_channels or (op.code == "MEAN" and keeps_last(op, subgraph))
    if moves and subgraph.tensors[op.inputs[0]].shape[-1:] == channels:  # PAD may add channels
        return op.inputs[0]
    constants = [t for t in op.inputs if subgraph.tensors[t].data is not None]
    if facts_of(op.code).affine and len(constants) == 1 and _per_channel(subgraph.tensors[constants[0]]):
        (other,) = (t for t in op.inputs if t != constants[0])
        if subgraph.tensors[other].shape[-1:] == channels:
            return ABSENT if op.code == "MUL" else other
    return "a scaling of channels does not pass through it"


def flattened(before: Sequence[int], after: Sequence[int]) -> int | None:
    """Return how often the channels (last axis) repeat in the last axis of a reshaped array; None unless whole.

    >>> flattened((2, 3, 5), (2, 15)), flattened((2, 3, 5), (6, 5)), flattened((2, 3, 5), (5, 6))
    (3, 1, None)
    """
    size = 1
    for length in reversed(before):
        size *= length
        if (size,) == tuple(after[-1:]):
            return size // before[-1]
    return None


def keeps_last(op: Op, subgraph: Subgraph) -> bool:
    """Return whether a reduction leaves the channels (the last axis) apart."""
    axes, rank = subgraph.tensors[op.inputs[1]].data, len(subgraph.tensors[op.inputs[0]].shape)
    return axes is not None and all(axis % rank != rank - 1 for axis in axes.reshape(-1).tolist())


def _per_channel(tensor: Tensor) -> bool:
    """Return whether a constant differs along the last axis at most."""
    return tensor.dtype == "float32" and all(size == 1 for size in tensor.shape[:-1])


def scaled(graph: Graph, changes: Sequence[tuple[ScalingPath, Float64Array]]) -> Graph:
    """Return the graph with each path's channels multiplied by its positive scales [C], of one repeat.

    Outputs stay what they were, up to float rounding. Scaled tensors get names of their own: they hold other values.
    """
    edit = Edit(graph)
    for path, scale in changes:
        for o in path.readers:
            divide(edit, graph.main, o, np.tile(scale, path.repeats))
        multiply(edit, graph.main, path.makers, scale)
        for part in path.parts:
            multiply(edit, graph.main, part.makers, scale[part.channels])
    return edit.rewritten().graph


def divide(edit: Edit, main: Subgraph, o: int, scale: Float64Array) -> None:
    """Divide the weights of linear operator `o` by the scales [C] of its input channels."""
    (axes,) = weight_axes(main.ops[o], main)
    data = edit.data(o, axes.slot)
    axis = axes.channel if axes.inputs is None else axes.inputs
    wide = np.repeat(scale.astype(np.float64), data.shape[axis] // len(scale))  # a depth multiplier repeats channels
    edit.own_constant(o, axes.slot, data / along(wide, axis, data.ndim))


def multiply(edit: Edit, main: Subgraph, makers: Sequence[int], scale: Float64Array) -> None:
    """Multiply what `makers` compute by scales [C] of its channels."""
    scale = scale.astype(np.float64)
    for o in makers:
        op = edit.ops[o]
        if facts_of(op.code).weight is not None:
            _scale_linear(edit, o, weight_axes(main.ops[o], main)[0], scale)
        elif op.code == "GATHER":
            (table,) = weight_axes(main.ops[o], main)
            edit.own_constant(o, table.slot, edit.data(o, table.slot) * scale)
        elif facts_of(op.code).affine and (slot := constant_slot(edit.tensors, op)) is not None:
            data = edit.data(o, slot)
            by_head = data.size == len(scale)  # perhaps in two axes
            factors = scale.reshape(data.shape) if by_head else np.tile(scale, max(data.size // len(scale), 1))
            edit.own_constant(o, slot, data * factors)
        for t in op.outputs:
            edit.rename(t, "scaled")


def constant_slot(tensors: Sequence[Tensor], op: Op) -> int | None:
    """Return the slot of the constant operand of an operator; None where all are activations."""
    return next((slot for slot, t in enumerate(op.inputs) if tensors[t].data is not None), None)


def _scale_linear(edit: Edit, o: int, axes: WeightAxes, scale: Float64Array) -> None:
    data = edit.data(o, axes.slot)
    edit.own_constant(o, axes.slot, data * along(scale, axes.channel, data.ndim))
    if bias_of(edit.ops[o]) != ABSENT:
        slot = bias_slot(edit.ops[o].code)
        bias = edit.data(o, slot)
        edit.own_constant(o, slot, bias * scale.reshape(bias.shape))
