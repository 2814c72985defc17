"""Operators on float values that are added to a graph: reductions, squares, rows of values."""

import numpy as np

from tfq_converters.graph import Options, Tensor
from tfq_converters.graph_edit.builder import GraphBuilder
from tfq_converters.operators import NOTHING_FUSED, PLAIN_MUL, PLAIN_SUB

MAX_RANK = 6  # the limit of XNNPACK's reductions


def result_of(
    builder: GraphBuilder,
    code: str,
    inputs: list[int],
    shape: tuple[int, ...],
    options: Options,
    dtype: str = "float32",
) -> int:
    """Return the result of a new operator; the first input gives it its name."""
    return builder.step(code, tuple(inputs), Tensor(f"{builder.tensors[inputs[0]].name}/{code}", shape, dtype), options)


def reduced(builder: GraphBuilder, code: str, source: int, axes: list[int], shape: tuple[int, ...]) -> int:
    """Return `source` reduced over `axes` to `shape`."""
    return result_of(
        builder, code, [source, builder.shared(axes)], shape, Options("ReducerOptions", {"keepDims": False})
    )


def over_channels(builder: GraphBuilder, code: str, source: int) -> int:
    """Return `source` reduced over all axes but the last."""
    shape = builder.tensors[source].shape
    return reduced(builder, code, source, list(range(len(shape) - 1)), shape[-1:])


def squared(builder: GraphBuilder, t: int) -> int:
    """Return the product of `t` with itself."""
    return builder.step("MUL", (t, t), _like(builder, t, "/square"), PLAIN_MUL)


def difference(builder: GraphBuilder, t: int, other: int) -> int:
    """Return `t` minus `other`, which has the shape of the difference."""
    return builder.step("SUB", (t, other), _like(builder, other, "/difference"), PLAIN_SUB)


def mean_square(builder: GraphBuilder, t: int) -> int:
    """Return the mean of all squared values of `t`."""
    return reduced(builder, "MEAN", squared(builder, t), list(range(len(builder.tensors[t].shape))), ())


def flat(builder: GraphBuilder, t: int) -> int:
    """Return all values of `t` in one row."""
    tensor = builder.tensors[t]
    row = Tensor(f"{tensor.name}/flat", (int(np.prod(tensor.shape, dtype=np.int64)),), "float32", (-1,))
    options = Options("ReshapeOptions", {"newShape": np.array([-1], np.int32)})
    return builder.step("RESHAPE", (t, builder.shared([-1])), row, options)


def range_of(builder: GraphBuilder, t: int, low: int | None = None) -> tuple[int, int]:
    """Return (minimum, maximum) of `t`; the minimum is `low` when that tensor is known to hold it."""
    source, rank = t, len(builder.tensors[t].shape)
    if not 0 < rank <= MAX_RANK:
        source, rank = flat(builder, t), 1
    axes = list(range(rank))
    minimum = reduced(builder, "REDUCE_MIN", source, axes, ()) if low is None else low
    return minimum, reduced(builder, "REDUCE_MAX", source, axes, ())


def packed(builder: GraphBuilder, pieces: list[int]) -> int:
    """Concatenate single values into one row."""
    options = Options("PackOptions", {"valuesCount": len(pieces), "axis": 0})
    return result_of(builder, "PACK", pieces, (len(pieces),), options)


def joined(builder: GraphBuilder, pieces: list[int]) -> int:
    """Concatenate rows into one row."""
    options = Options("ConcatenationOptions", {"axis": 0, **NOTHING_FUSED})
    length = sum(builder.tensors[t].shape[0] for t in pieces)
    return result_of(builder, "CONCATENATION", pieces, (length,), options)


def _like(builder: GraphBuilder, t: int, suffix: str) -> Tensor:
    tensor = builder.tensors[t]
    return Tensor(tensor.name + suffix, tensor.shape, tensor.dtype, tensor.shape_signature, has_rank=tensor.has_rank)
