"""Which tensor of a quantized file holds the same value as a tensor of the float graph.

A tensor that holds the same value keeps its name. A name that is used twice in one of the files pairs nothing.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tfq_converters.graph import ABSENT, BITS, Graph, Op, Subgraph, Tensor


@dataclass(frozen=True)
class Pair:
    """One value in both files."""

    floating: int  # tensor index in its subgraph of the float graph
    quantized: int  # and in the same subgraph of the quantized file
    op: Op  # in the float graph: the one that computes it, or the first that reads a constant
    subgraph: int = 0


def activation_pairs(floating: Graph, quantized: Graph) -> tuple[Pair, ...]:
    """Return pairs of computed float tensors of the main subgraphs, in graph order."""
    theirs = _unique_names(quantized.main, _computed(quantized.main))
    ours = set(_unique_names(floating.main, _computed(floating.main)).values())
    return tuple(
        Pair(tensor, theirs[floating.main.tensors[tensor].name], op)
        for op in floating.main.ops
        for tensor in op.outputs
        if tensor in ours
        and floating.main.tensors[tensor].dtype == "float32"
        and floating.main.tensors[tensor].name in theirs
    )


def constant_pairs(floating: Graph, quantized: Graph) -> tuple[Pair, ...]:
    """Return float32 weights paired with what is stored for them in another type, over all subgraphs.

    Paired by name, else by what the operator that computes a tensor of the same name reads in the same place. Biases
    in 32 bits or more are left out: their rounding is nothing, and bias correction changes them on purpose.
    """
    return tuple(
        pair
        for s, (ours, theirs) in enumerate(zip(floating.subgraphs, quantized.subgraphs, strict=False))
        for pair in _constants_of(ours, theirs, s)
    )


def _constants_of(ours: Subgraph, theirs: Subgraph, s: int) -> list[Pair]:
    by_name = _unique_names(theirs, [t for t, tensor in enumerate(theirs.tensors) if tensor.is_constant])
    computed = _unique_names(theirs, _computed(theirs))
    producers = theirs.producers()
    pairs: dict[int, Pair] = {}
    for op in ours.ops:
        for slot, tensor in enumerate(op.inputs):
            if tensor == ABSENT or tensor in pairs or not _is_float_constant(ours.tensors[tensor]):
                continue
            twin = by_name.get(ours.tensors[tensor].name)
            if twin is None and op.outputs and ours.tensors[op.outputs[0]].name in computed:
                twin = _stored(theirs, producers, computed[ours.tensors[op.outputs[0]].name], op, slot)
            if twin is not None and _stands_for(theirs.tensors[twin], ours.tensors[tensor]):
                pairs[tensor] = Pair(tensor, twin, op, s)
    return list(pairs.values())


def _stored(theirs: Subgraph, producers: Mapping[int, int], output: int, op: Op, slot: int) -> int | None:
    """Return the constant in input `slot` of the operator that computes `output`, if it is of the kind of `op`."""
    twin = theirs.ops[producers[output]]
    while twin.code in ("DEQUANTIZE", "QUANTIZE") and twin.code != op.code and twin.inputs[0] in producers:
        twin = theirs.ops[producers[twin.inputs[0]]]
    if twin.code != op.code or slot >= len(twin.inputs):
        return None
    tensor = twin.inputs[slot]
    while tensor in producers and theirs.ops[producers[tensor]].code in ("DEQUANTIZE", "RESHAPE"):
        tensor = theirs.ops[producers[tensor]].inputs[0]
    return tensor if tensor != ABSENT and theirs.tensors[tensor].is_constant else None


def _is_float_constant(tensor: Tensor) -> bool:
    return tensor.data is not None and tensor.dtype == "float32" and tensor.data.size > 0


def _stands_for(stored: Tensor, constant: Tensor) -> bool:
    """Return whether `stored` holds as many values as `constant`, in a type of 16 bits or fewer."""
    if stored.data is None or stored.data.size != constant.constant.size:
        return False
    return stored.dtype == "float16" or (BITS.get(stored.dtype, 64) <= 16 and stored.quantization is not None)


def _computed(subgraph: Subgraph) -> list[int]:
    return [tensor for op in subgraph.ops for tensor in op.outputs]


def _unique_names(subgraph: Subgraph, tensors: list[int]) -> dict[str, int]:
    """Return name -> tensor, for names that occur once among `tensors`."""
    counts = Counter(subgraph.tensors[tensor].name for tensor in tensors)
    return {subgraph.tensors[t].name: t for t in tensors if counts[subgraph.tensors[t].name] == 1}
