"""Tells which integer operators with weights the fast delegate (XNNPACK) of the default kernels takes.

The kernel table says what it takes of each kind of weights. It refuses some operators of a kind that it takes: weights
of less than 8 bits whose rows end within a byte, an output shape that is only known at run time, and a right side of a
product with a zero point. Operators that it refuses run on slower kernels, which round in another way.
"""

from tfq_converters.graph import BITS, Op, Subgraph
from tfq_converters.kernels.queries import cell_form, status
from tfq_converters.operators import data_of

DELEGATING = "litert"  # the runtime variant of the default kernels


def is_delegated(op: Op, subgraph: Subgraph) -> bool:
    """Return whether the delegate takes `op`, a linear operator of a file with integer activations."""
    weight = subgraph.tensors[op.inputs[1]]
    if subgraph.tensors[data_of(op)].dtype != "int8" or _refused(op, subgraph):
        return False
    granularity = "per_channel" if weight.affine.scale.size > 1 else "per_tensor"
    form = cell_form(op, subgraph)
    return status(op.code, "integer8", BITS[weight.dtype], granularity, DELEGATING, form).delegated


def _refused(op: Op, subgraph: Subgraph) -> bool:
    """Return whether it refuses this operator of a kind that it takes."""
    weight = subgraph.tensors[op.inputs[1]]
    if op.code == "FULLY_CONNECTED":
        return weight.shape[1] * BITS[weight.dtype] % 8 != 0
    if op.code == "TRANSPOSE_CONV":
        return not subgraph.tensors[op.inputs[0]].is_constant
    if op.code == "BATCH_MATMUL":
        return weight.quantization is not None and bool(weight.quantization.zero_point.any())
    return False
