"""A bounded sample of a tensor's values, drawn inside the graph or from its outputs: equal positions in every run.

One position is drawn in each of equally long stretches of the tensor, so that all places and channels are met alike.
The positions depend on the shape alone, never on the order of the samples or the process that runs them.
"""

from functools import lru_cache
from math import prod

import numpy as np

from tfq_converters.graph import FloatArray, Int64Array, Options
from tfq_converters.graph_edit import GraphBuilder, steps
from tfq_converters.operators import PLAIN_MUL

SAMPLE = 512  # values of a tensor per run


@lru_cache(maxsize=256)
def positions(count: int) -> Int64Array:
    """Return ascending positions, int64 [count], or [`SAMPLE`] of a larger `count`."""
    if count <= SAMPLE:
        return np.arange(count)
    edges = np.arange(SAMPLE + 1) * count // SAMPLE
    return edges[:-1] + np.random.default_rng(count).integers(0, np.diff(edges))


def drawn(values: FloatArray) -> FloatArray:
    """Return the sample, [at most `SAMPLE`], of an array of any shape that is there already."""
    return np.asarray(values.reshape(-1)[positions(values.size)])


def sampled(builder: GraphBuilder, t: int) -> int:
    """Return the index of a row of values of tensor `t`, float32 [n]."""
    tensor = builder.tensors[t]
    if not tensor.has_rank or any(size == -1 for size in tensor.dynamic_shape[1:]):
        return _of_any_shape(builder, t)
    count = prod(tensor.shape)
    if not tensor.shape or count <= SAMPLE:
        return steps.flat(builder, t)
    where = np.stack(np.unravel_index(positions(count), tensor.shape), -1)
    inputs = [t, builder.shared(where)]
    return steps.result_of(builder, "GATHER_ND", inputs, (len(where),), Options("GatherNdOptions", {}))


def _of_any_shape(builder: GraphBuilder, t: int) -> int:
    """Sample the same shares of a tensor whose length is known only when it runs."""
    to_float = Options("CastOptions", {"inDataType": 2, "outDataType": 0})
    to_int = Options("CastOptions", {"inDataType": 0, "outDataType": 2})
    flat = steps.flat(builder, t)
    size = steps.result_of(builder, "SHAPE", [flat], (1,), Options("ShapeOptions", {"outType": 2}), "int32")
    as_float = steps.result_of(builder, "CAST", [size], (1,), to_float)
    shares = (np.arange(SAMPLE) + np.random.default_rng(SAMPLE).random(SAMPLE)) / SAMPLE
    row = builder.constant("shares", (shares * (1 - 2**-20)).astype(np.float32))
    at = steps.result_of(builder, "MUL", [as_float, row], (SAMPLE,), PLAIN_MUL)
    where = steps.result_of(builder, "CAST", [at], (SAMPLE,), to_int, "int32")
    rows = Options("GatherOptions", {"axis": 0, "batchDims": 0})
    return steps.result_of(builder, "GATHER", [flat, where], (SAMPLE,), rows)
