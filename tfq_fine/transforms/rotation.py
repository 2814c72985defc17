"""Rotations that fold into weights: outliers of a channel or of a weight spread over many.

QuaRot (Ashkboos et al. 2024, arXiv 2404.00456): a random Hadamard matrix R, R R^T = I, turns

    a residual stream: W_write' = R^T W_write, E' = E R, W_read' = W_read diag(gamma) R (`residual_stream`)
    the values of each head of attention: W_v' = R^T W_v, W_o' = W_o R (`attention_values`)

with weights [outputs, inputs]. No operator is added, and the outputs stay what they are, up to float rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfq_converters.graph import ABSENT, Float64Array, Graph, Subgraph
from tfq_converters.operators import bias_of, bias_slot, weight_axes
from tfq_fine.transforms.attention_values import merged_heads, value_makers
from tfq_fine.transforms.channel_affine import Leaf, Leaves, leaves_of
from tfq_fine.transforms.channel_scaling import constant_slot
from tfq_fine.transforms.editing import Edit
from tfq_fine.transforms.residual_stream import ResidualStream


@dataclass(frozen=True)
class Heads:
    """The merged heads of attention.

    Attributes:
        depth: channels of each head.
        makers: the operators from the matrix that makes the values to the merged heads, last first.
        leaves: the matrices that read the merged heads.
    """

    depth: int
    makers: tuple[int, ...]
    leaves: tuple[Leaf, ...]


def random_hadamard(size: int, rng: np.random.Generator) -> Float64Array:
    """Return an orthogonal matrix [size, size] whose entries are of about one magnitude.

    It is a Hadamard matrix of the largest power of two in `size`, times a random rotation of what remains, with rows of
    random sign.
    """
    rest, matrix = size, np.ones((1, 1))
    while rest % 2 == 0:
        rest, matrix = rest // 2, np.kron(matrix, np.array([[1.0, 1.0], [1.0, -1.0]]) / np.sqrt(2))
    q, r = np.linalg.qr(rng.normal(size=(rest, rest)))
    signs = rng.choice([-1.0, 1.0], size)
    turned: Float64Array = signs[:, None] * np.kron(matrix, q * np.sign(np.diagonal(r)))
    return turned


def rotatable_heads(main: Subgraph) -> list[Heads]:
    """Return the heads whose values only matrices read."""
    rotatable = []
    for t in merged_heads(main):
        makers, leaves = value_makers(main, t), leaves_of(main, t)
        product = next(main.ops[o] for o in makers if main.ops[o].code == "BATCH_MATMUL")
        depth, channels = main.tensors[product.outputs[0]].shape[-1], main.tensors[t].shape[-1]
        if isinstance(leaves, Leaves) and channels % depth == 0 and _reads_rows(main, leaves):
            rotatable.append(Heads(depth, makers, leaves.leaves))
    return rotatable


def _reads_rows(main: Subgraph, leaves: Leaves) -> bool:
    """Return whether matrices read the channels in rows, through nothing that takes the larger of two values."""
    matrices = all(main.ops[leaf.op].code == "FULLY_CONNECTED" and leaf.repeats == 1 for leaf in leaves.leaves)
    return matrices and not leaves.ordered


def rotated(graph: Graph, streams: Sequence[ResidualStream], heads: Sequence[Heads], seed: int = 0) -> Graph:
    """Return the graph with residual streams and the values of heads turned by random Hadamard matrices."""
    edit, rng = Edit(graph), np.random.default_rng(seed)
    for stream in streams:
        _turn_stream(edit, graph.main, stream, rng)
    for each in heads:
        _turn_heads(edit, graph.main, each, rng)
    return edit.rewritten().graph


def _turn_stream(edit: Edit, main: Subgraph, stream: ResidualStream, rng: np.random.Generator) -> None:
    r = random_hadamard(main.tensors[min(stream.tensors)].shape[-1], rng)
    for o in stream.writers:
        _turn_outputs(edit, main, o, r)
    for o in stream.added:
        _turn_added(edit, main, o, r)
    for norm in stream.norms:
        gamma = np.ones(len(r))
        if norm.gamma is not None:
            slot = constant_slot(edit.tensors, main.ops[norm.gamma])
            assert slot is not None, "gamma is a constant"
            data = edit.data(norm.gamma, slot)
            gamma = data.reshape(-1).astype(np.float64)
            edit.own_constant(norm.gamma, slot, np.ones_like(data))
        for leaf in norm.leaves:
            _turn_inputs(edit, leaf.op, gamma[:, None] * r)
    for leaf in stream.leaves:
        _turn_inputs(edit, leaf.op, r)
    for t in stream.tensors:
        edit.rename(t, "rotated")


def _turn_heads(edit: Edit, main: Subgraph, heads: Heads, rng: np.random.Generator) -> None:
    channels = main.tensors[main.ops[heads.makers[0]].outputs[0]].shape[-1]
    r = np.zeros((channels, channels))
    for start in range(0, channels, heads.depth):
        each = slice(start, start + heads.depth)
        r[each, each] = random_hadamard(heads.depth, rng)
    for o in heads.makers:
        if main.ops[o].code == "FULLY_CONNECTED":
            _turn_outputs(edit, main, o, r)
        elif main.ops[o].code == "ADD":
            _turn_added(edit, main, o, r)
        edit.rename(main.ops[o].outputs[0], "rotated")
    for leaf in heads.leaves:
        _turn_inputs(edit, leaf.op, r)


def _turn_outputs(edit: Edit, main: Subgraph, o: int, r: Float64Array) -> None:
    """Turn what a matrix makes, or the rows of a table: y' = y R."""
    op, (axes,) = main.ops[o], weight_axes(main.ops[o], main)
    data = edit.data(o, axes.slot).astype(np.float64)
    edit.own_constant(o, axes.slot, data @ r if op.code == "GATHER" else r.T @ data)
    if op.code != "GATHER" and bias_of(op) != ABSENT:
        slot = bias_slot(op.code)
        edit.own_constant(o, slot, edit.data(o, slot).astype(np.float64) @ r)


def _turn_added(edit: Edit, main: Subgraph, o: int, r: Float64Array) -> None:
    """Turn a constant [..., C] that is added; its channels may be two axes, heads and depth."""
    slot = constant_slot(edit.tensors, main.ops[o])
    assert slot is not None, "a constant is added"
    data = edit.data(o, slot)
    edit.own_constant(o, slot, (data.reshape(-1, len(r)).astype(np.float64) @ r).reshape(data.shape))


def _turn_inputs(edit: Edit, o: int, r: Float64Array) -> None:
    """Turn the weights [O, C] of a matrix that reads turned channels."""
    edit.own_constant(o, 1, edit.data(o, 1).astype(np.float64) @ r)
