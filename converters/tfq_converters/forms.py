"""How quantized weights of a given fineness can be held and computed in a file: the form of one operator.

| form | what the file holds |
|---|---|
| native | the operator itself, over weights with one scale or one per output channel |
| pointwise | a 1x1 convolution as FULLY_CONNECTED on the 4-D input: the only one with fast kernels for 4 and 2 bits |
| blockwise | FULLY_CONNECTED (or a 1x1 convolution written as one) over int4 blocks, which its kernel reads itself |
| split | the inputs cut into groups, one operator per group of blocks, and the sum of their results |
| dequantize | an explicit DEQUANTIZE (and RESHAPE of blocks) in front of the float operator |
| lookup | EMBEDDING_LOOKUP in place of GATHER |

`form_of` says which of them computes a weight right, by the kernel table; which of several weights is wanted is not
decided here.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from tfq_converters import kernels
from tfq_converters.graph import Op, Subgraph
from tfq_converters.quantized import Form, Mode
from tfq_converters.weights import WeightAxes, groups_of, is_pointwise, weight_axes

KERNEL_BLOCKS = (512, 256, 128, 64, 32)  # block sizes of the fast int4 FULLY_CONNECTED
LEAST_ROWS = 4  # output channels below which the portable blockwise kernel is silently wrong
MOST_PARTS = 64  # of a split: each costs an operator, and an addition
WITHOUT_INPUTS = frozenset({"DEPTHWISE_CONV_2D"})  # each output channel sees one input channel: nothing to group


@dataclass(frozen=True)
class Fineness:
    """Bits and granularity of a weight, as a kernel table names them."""

    mode: Mode
    bits: int  # of the stored type
    granularity: str  # "per_tensor", "per_channel", "channel_groups" or "blocks"
    block: int = 0  # inputs that share a scale, for "blocks"
    activation_bits: int | None = None  # in mode "integer"


@dataclass(frozen=True)
class Answer:
    """A form, with the block size that it really uses (0: no blocks); or the reason why there is none."""

    form: Form | None
    block: int = 0
    note: str = ""
    repeated: bool = False  # the one scale of a tensor must be written once for each channel

    @property
    def works(self) -> bool:
        return self.form is not None


Refusal = Callable[[str, str, int, str, int | None], str]  # operator, mode, bits, granularity, activation bits


def form_of(op: Op, subgraph: Subgraph, wanted: Fineness, refusal: Refusal = kernels.refusal) -> Answer:
    """The form in which the weights of `op` are computed right, or why there is none.

    Blocks as long as all inputs of a channel are per-channel scales. Blocks that do not divide the inputs leave a
    shorter last block in a split, and are made equally long where they are dequantized; the blockwise kernel, which
    cannot have one, gets the next smaller size that it knows and that divides, else inputs and weights are filled up
    with zeros.
    """
    (axes, *_) = weight_axes(op, subgraph)
    if op.code == "GATHER" and wanted.mode != "integer":
        return _lookup(op, subgraph, wanted, refusal)
    if wanted.granularity == "blocks":
        length = 0 if axes.inputs is None else subgraph.tensors[op.inputs[axes.slot]].shape[axes.inputs]
        if wanted.block < length or not length or op.code in WITHOUT_INPUTS:
            return _blocks(op, subgraph, axes, wanted, refusal)
        wanted = replace(wanted, granularity="per_channel", block=0)
    if wanted.mode == "weight_only":
        return _table(op.code, wanted, "dequantize", refusal)
    if wanted.bits < 8 and is_pointwise(op, subgraph):
        return _table("FULLY_CONNECTED", wanted, "pointwise", refusal)
    answer = _table(op.code, wanted, "native", refusal)
    # the table speaks of grouped convolutions too; one scale of others is computed right
    ungrouped = op.code == "CONV_2D" and wanted.mode == "dynamic" and groups_of(op, subgraph) == 1
    return replace(answer, repeated=False) if ungrouped else answer


def _table(code: str, wanted: Fineness, form: Form, refusal: Refusal) -> Answer:
    """`form` where the table has a cell for it; one scale may be written once for each channel."""
    reason = refusal(code, wanted.mode, wanted.bits, wanted.granularity, wanted.activation_bits)
    repeated = bool(reason) and wanted.granularity == "per_tensor"
    if repeated:
        reason = refusal(code, wanted.mode, wanted.bits, "per_channel", wanted.activation_bits) and reason
    return Answer(None, note=reason) if reason else Answer(form, repeated=repeated)


def _lookup(op: Op, subgraph: Subgraph, wanted: Fineness, refusal: Refusal) -> Answer:
    depth = subgraph.tensors[op.inputs[0]].shape[1]
    if wanted.granularity != "blocks" or wanted.block >= depth:
        kind = "per_channel" if wanted.granularity == "blocks" else wanted.granularity
        return _table(op.code, Fineness(wanted.mode, wanted.bits, kind), "lookup", refusal)
    answer = _table(op.code, Fineness(wanted.mode, wanted.bits, "per_channel"), "lookup", refusal)
    block = _largest_divisor(depth, wanted.block)
    if not answer.works or block == wanted.block:
        return Answer(answer.form, wanted.block, answer.note)
    return Answer("lookup", block, f"blocks of {block}, the next smaller size that divides the {depth} columns")


def _largest_divisor(length: int, most: int) -> int:
    return next(size for size in range(min(most, length), 0, -1) if length % size == 0)


def _blocks(op: Op, subgraph: Subgraph, axes: WeightAxes, wanted: Fineness, refusal: Refusal) -> Answer:
    if op.code in WITHOUT_INPUTS or axes.inputs is None:
        return Answer(None, note=f"{op.code} has no inputs to group: an output channel sees one input channel")
    shape = subgraph.tensors[op.inputs[axes.slot]].shape
    length, channels = shape[axes.inputs], shape[axes.channel]
    block = wanted.block
    if wanted.mode == "weight_only":
        found = _table(op.code, Fineness("weight_only", wanted.bits, "per_channel"), "dequantize", refusal)
        return Answer(found.form, *_even(length, block)) if found.works else found
    matrix = op.code == "FULLY_CONNECTED" or is_pointwise(op, subgraph)
    if matrix and wanted.mode == "dynamic" and wanted.bits == 4 and block in KERNEL_BLOCKS and channels >= LEAST_ROWS:
        reason = refusal("FULLY_CONNECTED", "dynamic", 4, "blocks", None)
        if not reason:
            return _kernel_block(length, block)
    code = "FULLY_CONNECTED" if matrix and wanted.bits < 8 else op.code
    if op.code not in ("FULLY_CONNECTED", "CONV_2D", "TRANSPOSE_CONV"):
        return Answer(None, note=f"{op.code} cannot be split into groups of inputs")
    found = _table(code, Fineness(wanted.mode, wanted.bits, "per_channel", 0, wanted.activation_bits), "split", refusal)
    parts = -(-length // block)
    if found.works and parts > MOST_PARTS:
        return Answer(None, note=f"blocks of {block} would split {length} inputs into {parts} operators")
    return Answer(found.form, block, found.note or _short(length, block))


def _even(length: int, asked: int) -> tuple[int, str]:
    """The size of as many blocks as of `asked`, but equally long: the file fills the last one up to the others.

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
