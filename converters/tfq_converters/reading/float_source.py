"""Checks that a graph may be quantized: it is float, and free of NaN and infinity."""

from collections.abc import Iterator

import numpy as np

from tfq_converters.errors import TfqError, raise_all
from tfq_converters.graph import ABSENT, AnyArray, Graph, Op, Subgraph, Tensor
from tfq_converters.operators import facts_of

EXAMPLES = 5
LOW_BITS = ("int2", "int4", "uint4")
CODES = ("int8", "uint8", "int16", "int32", "int64", *LOW_BITS)


def refuse_quantized(graph: Graph, name: str) -> None:
    """Raise when `graph` holds quantized tensors or float16 constants already.

    Args:
        graph: what was read.
        name: how the source is called in the message.

    Raises:
        TfqError: one error with the first few examples.
    """
    reasons = [reason for subgraph in graph.subgraphs for reason in _quantized(subgraph)]
    if reasons:
        more = f"\n  - and {len(reasons) - EXAMPLES} more" if len(reasons) > EXAMPLES else ""
        listed = "".join(f"\n  - {reason}" for reason in reasons[:EXAMPLES]) + more
        raise TfqError(f"{name} is already quantized; pass the float model that it was made from:{listed}")


def _quantized(subgraph: Subgraph) -> Iterator[str]:
    """Yield one sentence for each tensor that holds codes or half-precision constants."""
    consumers = subgraph.consumers()
    for index, tensor in enumerate(subgraph.tensors):
        kind = "constant" if tensor.is_constant else "activation"
        uses = consumers.get(index, [])
        if tensor.quantization is not None and tensor.dtype in CODES:
            yield f"{kind} {tensor.name!r} is {tensor.dtype} with {len(tensor.quantization.scale)} scales"
        elif tensor.is_constant and tensor.dtype == "float16":
            yield f"constant {tensor.name!r} is float16"
        elif tensor.dtype in LOW_BITS or (tensor.dtype == "int8" and tensor.is_constant and _is_weight(subgraph, uses)):
            yield f"{kind} {tensor.name!r} is {tensor.dtype}"


def _is_weight(subgraph: Subgraph, uses: list[tuple[int, int]]) -> bool:
    codes = {subgraph.ops[op].code for op, _ in uses}
    return "DEQUANTIZE" in codes or any(facts_of(code).linear for code in codes)


def validate_constants(graph: Graph) -> None:
    """Raise when a constant holds NaN, or infinity where it is no mask.

    Masks (matrices whose finite values are all 0, as in an attention mask of 0 and -inf) and single infinite numbers
    (the start value of a maximum) are legitimate outside the weights of linear operators.

    Raises:
        TfqError: one error that lists every such tensor with its layer.
    """
    problems: dict[int, str] = {}  # one entry per array, which several tensors may share
    for subgraph in graph.subgraphs:
        for op in subgraph.ops:
            for slot, index in enumerate(op.inputs):
                tensor = subgraph.tensors[index] if index != ABSENT else None
                if tensor is not None and tensor.data is not None and id(tensor.data) not in problems:
                    problem = _not_finite(op, slot, tensor, tensor.data)
                    if problem:
                        problems[id(tensor.data)] = problem
    raise_all(problems.values(), "constants of the model are NaN or infinite:")


def _not_finite(op: Op, slot: int, tensor: Tensor, data: AnyArray) -> str:
    if not np.issubdtype(data.dtype, np.floating):
        return ""
    finite = np.isfinite(data)
    bad = data.size - int(np.count_nonzero(finite))
    if bad == 0:
        return ""
    nans = int(np.count_nonzero(np.isnan(data)))
    mask = data.size == 1 or (data.ndim > 1 and not np.any(data[finite]))
    if nans == 0 and mask and not (facts_of(op.code).linear and slot > 0):
        return ""
    where = f"layer {op.layer!r}, " if op.layer else ""
    first = [int(position) for position in np.argwhere(~finite)[0]]
    counts = f"{nans} NaN, {bad - nans} infinite of {data.size}, first at {first}"
    return f"{where}constant {tensor.name!r} of {op.label}: {counts}"
