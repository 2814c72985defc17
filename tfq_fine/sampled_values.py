"""A bounded sample of a tensor's values, drawn inside the graph or of what it gave: the same positions in every run.

One position is drawn in each of equally long stretches of the tensor, so that all places and channels are met alike.
The positions depend on the shape alone, never on the order of the samples or the process that runs them.
"""

from functools import lru_cache
from math import prod

import numpy as np

from tfq_converters.graph import Options, Tensor
from tfq_converters.operators import PLAIN_MUL
from tfq_fine.extension import Extension

SAMPLE = 512  # values of a tensor per run


@lru_cache(maxsize=256)
def positions(count: int) -> np.ndarray:
    """Ascending positions, int64, among `count`: all of them where there are no more than `SAMPLE`."""
    if count <= SAMPLE:
        return np.arange(count)
    edges = np.arange(SAMPLE + 1) * count // SAMPLE
    return edges[:-1] + np.random.default_rng(count).integers(0, np.diff(edges))


def drawn(values: np.ndarray) -> np.ndarray:
    """The sample of an array that is there already."""
    return values.reshape(-1)[positions(values.size)]


def sampled(extension: Extension, t: int) -> int:
    """The index of a row of values of tensor `t`, float32 [n]."""
    tensor = extension.tensors[t]
    if not tensor.has_rank or any(size == -1 for size in tensor.dynamic_shape[1:]):
        return _of_any_shape(extension, t)
    count = prod(tensor.shape)
    if not tensor.shape or count <= SAMPLE:
        return extension.flat(t)
    where = np.stack(np.unravel_index(positions(count), tensor.shape), -1)
    inputs = [t, extension.constant(where)]
    return extension.add("GATHER_ND", inputs, (len(where),), Options("GatherNdOptions", {}))


def _of_any_shape(extension: Extension, t: int) -> int:
    """The same shares of the tensor's length, which is known only when it runs."""
    flat = extension.flat(t)
    size = extension.add("SHAPE", [flat], (1,), Options("ShapeOptions", {"outType": 2}), "int32")
    as_float = extension.add("CAST", [size], (1,), Options("CastOptions", {"inDataType": 2, "outDataType": 0}))
    shares = (np.arange(SAMPLE) + np.random.default_rng(SAMPLE).random(SAMPLE)) / SAMPLE
    row = extension.new(Tensor("shares", (SAMPLE,), "float32", data=(shares * (1 - 2**-20)).astype(np.float32)))
    product = PLAIN_MUL
    at = extension.add("MUL", [as_float, row], (SAMPLE,), product)
    where = extension.add("CAST", [at], (SAMPLE,), Options("CastOptions", {"inDataType": 0, "outDataType": 2}), "int32")
    return extension.add("GATHER", [flat, where], (SAMPLE,), Options("GatherOptions", {"axis": 0, "batchDims": 0}))
