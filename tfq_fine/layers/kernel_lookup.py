"""Lookup of a kernel among the constants of a converted model, by its values, laid out as its operator has it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tfq_converters.graph import Float64Array, FloatArray, Graph
from tfq_converters.operators import weight_axes
from tfq_converters.quantized import OpKey, WeightCodes
from tfq_fine.layers.kernel import QuantizedKernel

ALIGNED = 1e-5  # relative difference of a row from a multiple of a kernel's row, where the converter folded a factor


@dataclass(frozen=True)
class Place:
    """A constant that holds a kernel, or a run of its output channels."""

    key: OpKey
    slot: int
    channel: int  # the axis of output channels
    channels: slice  # those of the kernel that it holds
    factor: Float64Array  # what the converter multiplied each of them with, float64 [channels]

    def of(self, codes: WeightCodes) -> WeightCodes:
        """Return the part of a kernel's codes that is here."""
        size, shared = codes.codes.shape[self.channel], codes.block[self.channel]
        if len(self.factor) == size:
            return codes
        block, scale, zero = codes.block, codes.scale, codes.zero_point
        if scale.shape[self.channel] > 1:  # a run may begin inside a block of channels: a scale for each of them
            each = np.arange(size)[self.channels] // shared
            scale, zero = np.take(scale, each, self.channel), np.take(zero, each, self.channel)
            block = tuple(1 if axis == self.channel else length for axis, length in enumerate(block))
        here = np.take(codes.codes, np.arange(size)[self.channels], self.channel)
        return replace(codes, codes=here, scale=scale, zero_point=zero, block=block)


def find_places(graph: Graph, kernel: QuantizedKernel, path: str) -> list[Place]:
    """Return the constants that hold a kernel: in its layer, else in any; in a loop, also pieces of it.

    Args:
        graph: the converted model.
        kernel: what is looked for.
        path: the path of its layer.

    Returns:
        The places; none where together they do not hold all of the kernel.
    """
    places = list(_places(graph, kernel, path))
    own = [place for place in places if is_of(graph, place.key, path)] or places
    held = {channel for place in own for channel in range(place.channels.start, place.channels.stop)}
    return own if own and len(held) == kernel.values.shape[own[0].channel] else []


def _places(graph: Graph, kernel: QuantizedKernel, path: str) -> Iterator[Place]:
    values = kernel.values
    for key, op in graph.ops():
        subgraph = graph.subgraphs[key[0]]
        for axes in weight_axes(op, subgraph) if op.code == kernel.kernel.op else ():
            data = subgraph.tensors[op.inputs[axes.slot]].constant
            factor, start = _factor(data, values, axes.channel), 0
            if factor is None and kernel.kernel.loop and is_of(graph, key, path):
                factor, start = _run(data, values, axes.channel)
            if factor is not None:
                yield Place(key, axes.slot, axes.channel, slice(start, start + len(factor)), factor)


def is_of(graph: Graph, key: OpKey, path: str) -> bool:
    """Return whether an operator came from the layer of that path, or from one inside it."""
    layer = graph.subgraphs[key[0]].ops[key[1]].layer
    return layer == path or layer.startswith(f"{path}/")


def _factor(data: FloatArray, values: FloatArray, channel: int) -> Float64Array | None:
    """Return what the converter multiplied each channel of a kernel with, float64 [channels]; None if unrelated."""
    if data.shape != values.shape:
        return None
    if np.array_equal(data, values):
        return np.ones(values.shape[channel])
    rows, kernel = (_rows(part, channel).astype(np.float64) for part in (data, values))
    square = np.einsum("rv,rv->r", kernel, kernel)
    factor = np.divide(np.einsum("rv,rv->r", rows, kernel), square, out=np.ones(len(square)), where=square > 0)
    away = np.abs(rows - factor[:, None] * kernel).max(axis=1)
    return factor if (away <= ALIGNED * np.abs(rows).max(axis=1)).all() and factor.all() else None


def _run(data: FloatArray, values: FloatArray, channel: int) -> tuple[Float64Array | None, int]:
    """Return factors, all 1, of the kernel's channels that `data` is a run of, and the first one; else None."""
    rows, kernel = _rows(data, channel), _rows(values, channel)
    if data.ndim == values.ndim and rows.shape[1] == kernel.shape[1]:
        for start in range(len(kernel) - len(rows) + 1):
            if np.array_equal(kernel[start : start + len(rows)], rows):
                return np.ones(len(rows)), start
    return None, 0


def _rows(values: FloatArray, channel: int) -> FloatArray:
    """Return values as [channels, all others]."""
    return np.moveaxis(values, channel, 0).reshape(values.shape[channel], -1)
