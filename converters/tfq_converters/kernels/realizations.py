"""How quantized weights of a given fineness can be held and computed in a file: the form of one operator.

| form | what the file holds |
|---|---|
| native | the operator itself, over weights with one scale or one per output channel |
| pointwise | a 1x1 convolution as FULLY_CONNECTED on the 4-D input: the only one with fast kernels for 4 and 2 bits |
| blockwise | FULLY_CONNECTED (or a 1x1 convolution written as one) over int4 blocks, which its kernel reads itself |
| split | the inputs cut into groups, one operator per group of blocks, and the sum of their results |
| dequantize | an explicit DEQUANTIZE (and RESHAPE of blocks) before the float operator |
| lookup | EMBEDDING_LOOKUP in place of GATHER |

`form_of` says which of them computes a weight right, by the kernel table; which of several weights is wanted is not
decided here.
"""

from dataclasses import dataclass, replace

from tfq_converters.graph import Op, Subgraph
from tfq_converters.kernels.queries import Target, cell_form, fault
from tfq_converters.operators import WeightAxes, facts_of, is_pointwise, weight_axes
from tfq_converters.quantized import Form, Mode

KERNEL_BLOCKS = (512, 256, 128, 64, 32)  # block sizes of the fast int4 FULLY_CONNECTED
LEAST_ROWS = 4  # output channels below which the portable blockwise kernel is silently wrong
MOST_PARTS = 64  # parts of a split: each costs an operator, and an addition


@dataclass(frozen=True)
class Fineness:
    """Bits and granularity of a weight, as a kernel table names them."""

    mode: Mode
    bits: int  # bits of the stored type
    granularity: str  # "per_tensor", "per_channel", "channel_groups" or "blocks"
    block: int = 0  # inputs that share a scale, for "blocks"
    activation_bits: int | None = None  # in mode "integer"
    symmetric: bool = True  # without zero points, which an explicit DEQUANTIZE alone takes


@dataclass(frozen=True)
class Answer:
    """A form, with the block size that it really uses (0: no blocks); or the reason why there is none."""

    form: Form | None
    block: int = 0
    note: str = ""
    repeated: bool = False  # the one scale of a tensor must be written once for each channel

    @property
    def works(self) -> bool:
        """Whether there is a form that is computed right."""
        return self.form is not None


def form_of(op: Op, subgraph: Subgraph, requested: Fineness, target: Target | None = None) -> Answer:
    """Return the form in which the weights of `op` are computed right, or why there is none.

    Blocks as long as all inputs of a channel are per-channel scales. Blocks that do not divide the inputs leave a
    shorter last block in a split, and are made equally long where they are dequantized; the blockwise kernel, which
    cannot have one, gets the next smaller size that it knows and that divides, else inputs and weights are filled up
    with zeros.
    """
    (axes, *_) = weight_axes(op, subgraph)
    if op.code == "GATHER" and requested.mode != "integer" and requested.symmetric:
        return _lookup(op, subgraph, requested, target)
    if requested.granularity == "blocks":
        length = 0 if axes.inputs is None else subgraph.tensors[op.inputs[axes.slot]].shape[axes.inputs]
        if requested.block < length or not length:
            return _blocks(op, subgraph, axes, requested, target)
        requested = replace(requested, granularity="per_channel", block=0)
    if requested.mode == "weight_only":
        return _table(op, subgraph, requested, "dequantize", target)
    if requested.bits < 8 and is_pointwise(op, subgraph):
        return _table(op, subgraph, requested, "pointwise", target)
    return _table(op, subgraph, requested, "native", target)


def _table(op: Op, subgraph: Subgraph, requested: Fineness, form: Form, target: Target | None) -> Answer:
    """Return `form` where the table has a cell for it; one scale may be written once for each channel."""
    reason = _fault(op, subgraph, requested, form, target)
    repeated = False
    if reason and requested.granularity == "per_tensor":
        repeated = not _fault(op, subgraph, replace(requested, granularity="per_channel"), form, target)
    return Answer(None, note=reason) if reason and not repeated else Answer(form, repeated=repeated)


def _fault(op: Op, subgraph: Subgraph, requested: Fineness, form: Form, target: Target | None) -> str:
    """Return why the kernels of the target do not compute such a cell; "" when they do."""
    matrix = form in ("pointwise", "blockwise") or (
        form == "split" and requested.bits < 8 and is_pointwise(op, subgraph)
    )
    code = "FULLY_CONNECTED" if matrix else op.code
    cell = "" if matrix else cell_form(op, subgraph)
    return fault(code, requested.mode, requested.bits, requested.granularity, requested.activation_bits, target, cell)


def _lookup(op: Op, subgraph: Subgraph, requested: Fineness, target: Target | None) -> Answer:
    depth = subgraph.tensors[op.inputs[0]].shape[1]
    if requested.granularity != "blocks" or requested.block >= depth:
        kind = "per_channel" if requested.granularity == "blocks" else requested.granularity
        return _table(op, subgraph, replace(requested, granularity=kind), "lookup", target)
    native = requested.bits == 4 and requested.block in KERNEL_BLOCKS and depth % requested.block == 0
    cell = replace(requested, granularity="blocks" if native else "per_channel")
    answer = _table(op, subgraph, cell, "lookup", target)
    return Answer(answer.form, requested.block, answer.note or _short(depth, requested.block))


def _blocks(op: Op, subgraph: Subgraph, axes: WeightAxes, requested: Fineness, target: Target | None) -> Answer:
    if axes.inputs is None:
        return Answer(None, note=f"{op.code} has no inputs to group: an output channel sees one input channel")
    shape = subgraph.tensors[op.inputs[axes.slot]].shape
    length, channels, block = shape[axes.inputs], shape[axes.channel], requested.block
    per_channel = replace(requested, granularity="per_channel")
    if requested.mode == "weight_only":
        realization = _table(op, subgraph, per_channel, "dequantize", target)
        return Answer(realization.form, *_even(length, block)) if realization.works else realization
    matrix = op.code == "FULLY_CONNECTED" or is_pointwise(op, subgraph)
    in_kernel = matrix and requested.mode == "dynamic" and requested.bits == 4 and block in KERNEL_BLOCKS
    if in_kernel and channels >= LEAST_ROWS and not _fault(op, subgraph, requested, "blockwise", target):
        return _kernel_block(length, block)
    if facts_of(op.code).input_axis is None:
        return Answer(None, note=f"{op.code} cannot be split into groups of inputs")
    part = replace(per_channel, activation_bits=16 if requested.mode == "integer" else None)
    realization = _table(op, subgraph, part, "split", target)
    parts = -(-length // block)
    if realization.works and parts > MOST_PARTS:
        return Answer(None, note=f"blocks of {block} would split {length} inputs into {parts} operators")
    return Answer(realization.form, block, realization.note or _short(length, block))


def _even(length: int, asked: int) -> tuple[int, str]:
    """Return the size of equally long blocks, as many as blocks of `asked`; the file pads the last one.

    >>> _even(144, 128)
    (72, 'blocks of 72 inputs, as many as of 128, which leave a last one to fill up')
    >>> _even(256, 128)
    (128, '')
    """
    size = -(-length // -(-length // asked))
    if size == asked:
        return asked, _short(length, asked)
    return size, f"blocks of {size} inputs, as many as of {asked}, which leave a last one to fill up"


def _short(length: int, block: int) -> str:
    return f"the last block has {length % block} of {block} inputs" if length % block else ""


def _kernel_block(length: int, asked: int) -> Answer:
    if length % asked == 0:
        return Answer("blockwise", asked)
    smaller = next((size for size in KERNEL_BLOCKS if size < asked and length % size == 0), None)
    if smaller:
        return Answer("blockwise", smaller, f"blocks of {smaller}, the next smaller size that divides {length} inputs")
    filled = -(-length // asked) * asked
    return Answer("blockwise", asked, f"{length} inputs are filled up with zeros to {filled}")
