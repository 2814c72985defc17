"""Whether an integer kernel runs an operator."""

import numpy as np

from tfq_converters.graph import ABSENT, IntArray, Op, Subgraph
from tfq_converters.operators import OPS, facts_of, lstm
from tfq_converters.realize import REWRITES


def no_integer_kernel(op: Op, subgraph: Subgraph, bits: int) -> str:
    """Return why no kernel runs `op` on integer activations of `bits`; "" when one does."""
    row = OPS.get(op.code)
    if row is None or not row.takes(f"int{bits}"):
        return f"{op.label} has no int{bits} kernel"
    tensors = [subgraph.tensors[t] for t in op.inputs if t >= 0]
    if op.code == lstm.CODE:
        return lstm.unusual(op, subgraph)
    if any(tensor.is_variable for tensor in tensors):
        return "it keeps its state in a variable"
    data = next((tensor for tensor in tensors if tensor.dtype == "float32" and not tensor.is_constant), None)
    if data is None:
        return "it reads no activation" if op.code in REWRITES else ""
    if row.distinct is not None and not _are_distinct(subgraph.tensors[op.inputs[row.distinct]].data):
        return f"the int{bits} kernel of {op.code} is wrong where indices repeat, as its may"
    if row.max_rank is not None and len(data.shape) > row.max_rank:
        return f"the int{bits} kernel of {op.code} takes at most rank {row.max_rank}, it has {len(data.shape)}"
    if row.reference_row is not None and bits == 8 and data.shape[-1:] > (row.reference_row,):
        return f"the int8 {op.code} over {data.shape[-1]} values aborts the process on the reference kernels"
    facts = facts_of(op.code)
    for slot in (facts.weight, facts.bias):
        tensor = op.inputs[slot] if slot is not None and slot < len(op.inputs) else ABSENT
        if tensor != ABSENT and not subgraph.tensors[tensor].is_constant:
            return f"its {'weight' if slot == facts.weight else 'bias'} is not a constant"
    return ""


def _are_distinct(indices: IntArray | None) -> bool:
    """Return whether no row of `indices` [..., depth] appears twice; not when they are computed."""
    if indices is None:
        return False
    rows = indices.reshape(-1, indices.shape[-1])
    return len(np.unique(rows, axis=0)) == len(rows)
