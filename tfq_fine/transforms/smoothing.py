"""Activations whose makers can scale or shift their channels, and whose linear readers undo that.

Unlike in `channel_scaling`, a maker may be a layer norm, which is several operators in TFLite. Its
gain g is read twice (m is the mean, r the reciprocal of the standard deviation):

    g = r * gamma        y = x * g + (-m * g + beta)

y is scaled by gamma and beta, and shifted by beta alone. Several linear operators may read it (query, key and value of
attention), perhaps after a reshape whose lengths are computed. The merged heads of attention are scaled where its
values are made (`attention_values`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from tfq_converters.graph import ABSENT, Float64Array, Graph, Op, Subgraph
from tfq_converters.operators import bias_of, bias_slot, data_of, facts_of, fused_activation, fuses, weight_axes
from tfq_fine.transforms.attention_values import merged_heads, value_makers
from tfq_fine.transforms.channel_affine import Leaf, Leaves, leaves_of
from tfq_fine.transforms.channel_scaling import HOMOGENEOUS, constant_slot, multiply, scalable_input, value_readers
from tfq_fine.transforms.editing import Edit
from tfq_fine.transforms.fold_into_readers import add_to_bias, fold_into_reader

MOST_WAYS = 64  # ways to choose a factor of every product of two activations, of which the first possible one is taken


@dataclass(frozen=True)
class SmoothingPath:
    """An activation, the operators that change it, and those that undo the change.

    Attributes:
        tensor: the activation; its channels are the last axis.
        channels: the number of its channels.
        makers: the operators that scale it, last first; empty if no set of operators does so exactly.
        shifters: the operators that shift it, last first; empty if no set of operators does so exactly.
        leaves: the linear operators that read it, directly or through operators that move or average values.
        inner: other activations that are scaled with it, and rounded by themselves.
        through_attention: it is merged heads, and the last maker makes the values of attention.
    """

    tensor: int
    channels: int
    makers: tuple[int, ...]
    shifters: tuple[int, ...]
    leaves: tuple[Leaf, ...]
    inner: tuple[int, ...]
    through_attention: bool = False


def smoothing_paths(graph: Graph) -> dict[int, SmoothingPath]:
    """Return a path for each activation that only linear operators read and whose channels can be scaled or shifted."""
    return graph.derived.once(lambda: _smoothing_paths(graph), key="smoothing paths")


def _smoothing_paths(graph: Graph) -> dict[int, SmoothingPath]:
    main = graph.main
    sources = dict.fromkeys(source_of(main, data_of(op)) for op in main.ops if facts_of(op.code).weight is not None)
    paths = [
        _path(main, t)
        for t in sources
        if t in main.producers() and main.tensors[t].dynamic_shape[-1:] not in ((), (-1,))
    ]
    heads = (_through_attention(main, t) for t in merged_heads(main))
    return {path.tensor: path for path in (*paths, *heads) if path is not None}


def of_unknown_size(graph: Graph) -> list[int]:
    """Return the scaled activations on paths, without those whose size follows from constants (`known_size`)."""
    paths = [p for p in smoothing_paths(graph).values() if p.makers and known_size(graph, p) is None]
    return list(dict.fromkeys(t for path in paths for t in (path.tensor, *path.inner)))


def known_size(graph: Graph, path: SmoothingPath) -> Float64Array | None:
    """Return the root mean square of each channel [C] of a norm, or of the values of attention to a norm; else None.

    That of values follows from the weights that make them of a norm whose channels have nothing to do with one another.
    """
    main = graph.main
    if not path.through_attention:
        return norm_size(main, path)
    *between, matrix = path.makers
    read = smoothing_paths(graph).get(source_of(main, data_of(main.ops[matrix])))
    size = None if read is None else norm_size(main, read)
    if size is None:
        return None
    (axes,) = weight_axes(main.ops[matrix], main)
    weight = main.tensors[main.ops[matrix].inputs[axes.slot]].constant
    square = np.square(weight, dtype=np.float64) @ np.square(size)
    operands = (t for o in between if main.ops[o].code == "ADD" for t in main.ops[o].inputs)
    biases = [t for t in (*operands, bias_of(main.ops[matrix])) if t != ABSENT and main.tensors[t].is_constant]
    for t in biases:
        square += np.square(main.tensors[t].constant, dtype=np.float64).reshape(-1)
    return np.asarray(np.sqrt(square))


def norm_size(main: Subgraph, path: SmoothingPath) -> Float64Array | None:
    """Return the root mean square of each channel [C] of a norm, by its gamma and beta; None for other makers.

    It assumes that all channels have the same mean square before gamma, which is then 1.
    """
    gains = [o for o in path.makers if _is_gain(main, main.ops[o], (path.channels,)) and _normalizes(main, main.ops[o])]
    if len(gains) != 1:
        return None
    square = np.zeros(path.channels)
    for o in path.makers:
        slot = constant_slot(main.tensors, main.ops[o])
        if slot is not None and (o in gains or facts_of(main.ops[o].code).adds):
            square += np.square(main.tensors[main.ops[o].inputs[slot]].constant, dtype=np.float64).reshape(-1)
    return np.asarray(np.sqrt(square))


def _normalizes(main: Subgraph, op: Op) -> bool:
    """Return whether a gain multiplies the reciprocal of a standard deviation, or a product with it."""
    producers = main.producers()

    def codes(t: int) -> dict[str, int]:
        return {main.ops[producers[t]].code: producers[t]} if t in producers else {}

    made = [pair for t in op.inputs for pair in codes(t).items()]
    products = [t for code, o in made if code == "MUL" for t in main.ops[o].inputs]
    return any(code == "RSQRT" for code, _ in made) or any("RSQRT" in codes(t) for t in products)


def smoothed(graph: Graph, changes: Sequence[tuple[SmoothingPath, Float64Array]]) -> Graph:
    """Return the graph with each activation's channels divided by its positive s [C], and weights multiplied by s."""
    edit = Edit(graph)
    for path, s in changes:
        for leaf in path.leaves:
            fold_into_reader(edit, graph.main, leaf, s, np.zeros_like(s))
        multiply(edit, graph.main, path.makers, 1 / s)
    return edit.rewritten().graph


def shifted(graph: Graph, changes: Sequence[tuple[SmoothingPath, Float64Array]]) -> Graph:
    """Return the graph with z [C] taken from each activation's channels, and W z added to the biases of its readers."""
    edit = Edit(graph)
    for path, z in changes:
        for leaf in path.leaves:
            fold_into_reader(edit, graph.main, leaf, np.ones_like(z), z)
        *between, last = path.shifters
        if facts_of(edit.ops[last].code).weight is not None:
            add_to_bias(edit, last, -z)
        else:
            slot = constant_slot(edit.tensors, edit.ops[last])
            assert slot is not None, "the last operator adds a constant"
            edit.own_constant(last, slot, edit.data(last, slot) - z)
        for o in (*between, last):
            edit.rename(edit.ops[o].outputs[0], "shifted")
    return edit.rewritten().graph


def source_of(main: Subgraph, tensor: int) -> int:
    """Return the tensor that reshapes turn into `tensor`."""
    producers = main.producers()
    while tensor in producers and main.ops[producers[tensor]].code == "RESHAPE":
        tensor = main.ops[producers[tensor]].inputs[0]
    return tensor


def _path(main: Subgraph, tensor: int) -> SmoothingPath | None:
    leaves = leaves_of(main, tensor)
    if not isinstance(leaves, Leaves):
        return None
    channels = main.tensors[tensor].shape[-1]
    makers = next((way for way in islice(_ways(main, tensor), MOST_WAYS) if _complete(main, tensor, way)), ())
    shifters = () if any(leaf.pads for leaf in leaves.leaves) else _shifters(main, tensor)
    if any(main.tensors[main.ops[o].outputs[0]].shape[-1] != channels for o in makers):  # it is flattened on the way
        makers = ()
    if not makers and not shifters:
        return None
    outputs = (main.ops[o].outputs[0] for o in makers if not facts_of(main.ops[o].code).within_input)
    inner = tuple(t for t in dict.fromkeys(outputs) if t != tensor)
    return SmoothingPath(tensor, channels, makers, shifters, leaves.leaves, inner)


def _through_attention(main: Subgraph, tensor: int) -> SmoothingPath | None:
    """Return the path of merged heads, whose channels are scaled where the values of attention are made."""
    leaves, makers = leaves_of(main, tensor), value_makers(main, tensor)
    if not isinstance(leaves, Leaves):
        return None
    channels = main.tensors[tensor].shape[-1]
    outputs = (main.ops[o].outputs[0] for o in makers if not facts_of(main.ops[o].code).within_input)
    inner = tuple(t for t in outputs if t != tensor and main.tensors[t].shape[-1] == channels)
    return SmoothingPath(tensor, channels, makers, (), leaves.leaves, inner, through_attention=True)


def _ways(main: Subgraph, tensor: int) -> Iterator[tuple[int, ...]]:
    """Yield sets of operators, last first, that scale the channels of `tensor` when their constants are scaled."""
    o = main.producers().get(tensor)
    if o is None:
        return
    op = main.ops[o]
    channels = main.tensors[tensor].shape[-1:]
    following = ABSENT if _is_gain(main, op, channels) else scalable_input(op, main)
    if following == ABSENT:
        yield (o,)
    elif not isinstance(following, str):
        yield from ((o, *way) for way in _inner_ways(main, following))
    elif facts_of(op.code).affine and fused_activation(op) in HOMOGENEOUS and constant_slot(main.tensors, op) is None:
        operands = [t for t in op.inputs if main.tensors[t].shape[-1:] == channels]
        if op.code == "MUL":
            for t in operands:
                yield from ((o, *way) for way in _inner_ways(main, t))
        elif len(operands) == 2:
            for first in _inner_ways(main, operands[0]):
                yield from ((o, *dict.fromkeys((*first, *then))) for then in _inner_ways(main, operands[1]))


def _inner_ways(main: Subgraph, tensor: int) -> Iterator[tuple[int, ...]]:
    """Yield the sets of operators that scale an inner activation; one with several readers is a gain."""
    o = main.producers().get(tensor)
    if o is None or tensor in main.outputs:
        return
    if len(value_readers(main, tensor)) == 1 or _is_gain(main, main.ops[o], main.tensors[tensor].shape[-1:]):
        yield from _ways(main, tensor)


def _is_gain(main: Subgraph, op: Op, channels: tuple[int, ...]) -> bool:
    """Return whether an operator multiplies with a constant that has a value for each channel."""
    if op.code != "MUL" or fused_activation(op) not in HOMOGENEOUS:
        return False
    slot = constant_slot(main.tensors, op)
    if slot is None:
        return False
    constant = main.tensors[op.inputs[slot]]
    return constant.dtype == "float32" and constant.shape[-1:] == channels and set(constant.shape[:-1]) <= {1}


def _complete(main: Subgraph, tensor: int, way: tuple[int, ...]) -> bool:
    """Return whether every reader of a scaled inner activation passes the scale on."""
    inside = {main.ops[o].outputs[0] for o in way} - {tensor}
    return all(o in way for t in inside for o, _ in value_readers(main, t))


def _shifters(main: Subgraph, tensor: int) -> tuple[int, ...]:
    """Return the operators, last first, that pass a shift of the channels of `tensor` on from the constant of the last.

    The list is empty if no constant's shift reaches `tensor` unchanged.
    """
    o = main.producers().get(tensor)
    if o is None or fuses(main.ops[o]):
        return ()
    op, channels = main.ops[o], main.tensors[tensor].shape[-1:]
    if facts_of(op.code).weight is not None:
        has_constants = bias_of(op) == ABSENT or main.tensors[bias_of(op)].data is not None
        return (o,) if has_constants and bias_slot(op.code) is not None else ()
    operands: Sequence[int] = ()
    if op.code == "ADD":
        slot = constant_slot(main.tensors, op)
        if slot is not None and main.tensors[op.inputs[slot]].shape[-1:] == channels:
            return (o,)
        operands = op.inputs if slot is None else ()
    elif facts_of(op.code).averages or facts_of(op.code).largest or op.code == "RESHAPE":
        operands = op.inputs[:1]
    for t in operands:
        is_inside = t not in main.outputs and len(value_readers(main, t)) == 1
        if is_inside and main.tensors[t].shape[-1:] == channels and (way := _shifters(main, t)):
            return (o, *way)
    return ()
