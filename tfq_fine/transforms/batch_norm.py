"""Batch norm after an activation function, which the converter leaves as MUL and ADD, folded into what is around it.

y = scale * x + shift (`channel_affine`) goes away where that is exact:

- backward, where a linear operator without an activation makes x, perhaps pooled or reshaped: into its weights and
  bias;
- |scale| backward through ReLU and pooling, relu(x) s = relu(s x) for s > 0, into what makes x: its channels then
  have the spread that batch norm gave them, which is what a scale per tensor wants;
- the sign, or all of the scale where nothing takes it back, forward into the weights of what reads y, and the shift
  into their biases: W (s x + b) = (W s) x + W b;
- zeros that pad y are not shifted, so that a bias cannot hold the shift. There the ADD alone stays: it is faster than a
  constant channel that could carry the shift (0.087 ms against 0.124 ms in the CNN of `benchmarks.zoo.raw_cnn`;
  unfolded: 0.106 ms) and as accurate (14.2 and 14.5 dB).
"""

from dataclasses import dataclass, replace

import numpy as np

from tfq_converters.graph import Float64Array, Graph, Op, Subgraph
from tfq_converters.operators import PLAIN_ADD, facts_of, fuses
from tfq_fine.transforms.channel_affine import ChannelAffine, Leaves, channel_affines, leaves_of
from tfq_fine.transforms.channel_scaling import makers_of, multiply, value_readers
from tfq_fine.transforms.editing import Edit, Rewritten
from tfq_fine.transforms.fold_into_readers import add_to_bias, fold_into_reader

SMALLEST = 1e-2  # least share of the largest |scale|: what is divided by less would have a range far beyond the others


@dataclass(frozen=True)
class Folded:
    """The graph with batch norms folded, and what was done."""

    rewritten: Rewritten
    folded: tuple[str, ...]  # what was folded, and how
    kept: tuple[str, ...]  # what was not, and why


def fold_batch_norm(graph: Graph) -> Folded:
    """Fold all that can be folded exactly."""
    rewritten, reasons = Rewritten.nothing(graph), set[str]()
    folded: list[str] = []
    kept: list[str] = []
    while True:
        main = rewritten.graph.main
        left = (affine for affine in channel_affines(main) if main.tensors[affine.result].name not in reasons)
        affine = next(left, None)
        if affine is None:
            return Folded(rewritten, tuple(folded), tuple(kept))
        reasons.add(main.tensors[affine.result].name)
        edit = Edit(rewritten.graph)
        outcome = _fold(edit, main, affine)
        (folded if outcome.done else kept).append(f"{main.op_name(affine.ops[0])}: {outcome.how}")
        if outcome.done:
            rewritten = rewritten.then(edit.rewritten())


@dataclass(frozen=True)
class _Found:
    """The outcome for one batch norm."""

    done: bool
    how: str  # or why not


def _fold(edit: Edit, main: Subgraph, affine: ChannelAffine) -> _Found:
    makers, leaves = _makers(main, affine), leaves_of(main, affine.result)
    if isinstance(makers, tuple) and _is_linear(main, makers, affine):
        return _into_maker(edit, main, affine, makers)
    if isinstance(leaves, Leaves) and leaves.ordered and (affine.scale <= 0).any():
        leaves = "the largest of several values is another one where the scale is not positive"
    if isinstance(leaves, Leaves):
        return _forward(edit, main, affine, makers, leaves)
    return _backward(edit, main, affine, makers, leaves)


def _makers(main: Subgraph, affine: ChannelAffine) -> tuple[int, ...] | str:
    """Return the operators that can scale the channels of x, where nothing else reads x."""
    readers = [o for o, _ in value_readers(main, affine.source)]
    if affine.source in main.outputs or readers != [affine.ops[0]]:
        return f"{main.tensors[affine.source].name} is read elsewhere too"
    return makers_of(main, affine.source)


def _is_linear(main: Subgraph, makers: tuple[int, ...], affine: ChannelAffine) -> bool:
    """Return whether x is the result of a linear operator, perhaps pooled or reshaped."""
    *between, first = (main.ops[o] for o in makers)
    largest = any(facts_of(op.code).largest for op in between)
    moved = all(_takes_shifts(op) and not fuses(op) for op in between)
    return (
        facts_of(first.code).weight is not None
        and not fuses(first)
        and moved
        and not (largest and (affine.scale <= 0).any())
    )


def _takes_shifts(op: Op) -> bool:
    """Return whether f(x + b) = f(x) + b for one b per channel."""
    facts = facts_of(op.code)
    return facts.averages or facts.largest or op.code == "RESHAPE"


def _into_maker(edit: Edit, main: Subgraph, affine: ChannelAffine, makers: tuple[int, ...]) -> _Found:
    """Fold into the producer: s (W x + c) + b = (s W) x + s c + b."""
    if (affine.scale != 1).any():
        multiply(edit, main, makers, affine.scale)
    for o in makers[1:] if affine.shift.any() else ():
        edit.rename(edit.ops[o].outputs[0], "shifted")
    add_to_bias(edit, makers[-1], affine.shift)
    edit.ops[makers[0]] = replace(edit.ops[makers[0]], outputs=(affine.result,))
    for o in affine.ops:
        edit.remove(o)
    return _Found(True, "into the weights before it")


def _forward(
    edit: Edit, main: Subgraph, affine: ChannelAffine, makers: tuple[int, ...] | str, leaves: Leaves
) -> _Found:
    backward = isinstance(makers, tuple)
    left = np.where(affine.scale < 0, -1.0, 1.0) if backward else affine.scale  # what the readers take
    exact = not affine.shift.any() or not any(leaf.pads for leaf in leaves.leaves)
    if not exact and (affine.scale == 1).all():
        return _Found(False, "the zeros next to it are not shifted")
    if not exact and (np.abs(left) < SMALLEST * np.abs(left).max()).any():
        return _Found(
            False, "the zeros next to it are not shifted, and channels with a scale near 0 would grow beyond all"
        )
    for leaf in leaves.leaves:
        fold_into_reader(edit, main, leaf, left, affine.shift if exact else np.zeros_like(left))
    _keep_shift(edit, affine, np.zeros_like(left) if exact else affine.shift / left)
    if isinstance(makers, tuple):
        multiply(edit, main, makers, np.abs(affine.scale))
    into = "the weights around it" if backward else "the weights that read it"
    return _Found(True, f"into {into}" if exact else f"its scale into {into}; the zeros next to it are not shifted")


def _backward(edit: Edit, main: Subgraph, affine: ChannelAffine, makers: tuple[int, ...] | str, why: str) -> _Found:
    """Return the scale alone, where not all that reads y can take anything."""
    if isinstance(makers, str):
        return _Found(False, f"{why}; {makers}")
    if (affine.scale <= 0).any() or (affine.scale == 1).all():
        return _Found(False, why)
    multiply(edit, main, makers, affine.scale)
    _keep_shift(edit, affine, affine.shift)
    return _Found(True, f"its scale into the weights before it; {why}")


def _keep_shift(edit: Edit, affine: ChannelAffine, shift: Float64Array) -> None:
    """Emit y = x + shift in place of the last operator; where there is no shift, readers of y read x."""
    last = affine.ops[-1]
    for o in affine.ops[:-1] if shift.any() else affine.ops:
        edit.remove(o)
    if not shift.any():
        edit.feed_instead(affine.result, affine.source)
        return
    op = edit.ops[last]
    slot = next(slot for slot, t in enumerate(op.inputs) if edit.tensors[t].data is not None)
    inputs = (affine.source, op.inputs[slot])
    edit.ops[last] = replace(op, code="ADD", inputs=inputs, options=PLAIN_ADD, version=1)
    edit.own_constant(last, 1, shift)
