"""From the constants of a converted file to the layers whose weights they hold, by their values.

The converter transposes kernels and multiplies each output channel by a batch norm's factor. So each kernel is laid out
as rows, one per output channel, and rows are compared by their direction alone.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tfq_converters.graph import ABSENT, AnyArray, Graph, IdentityCache, Op, Subgraph
from tfq_converters.operators import facts_of
from tfq_converters.reading.keras_models.layers import Node, nodes, own_weights

OpKey = tuple[int, int]
Layout = Callable[[AnyArray], AnyArray]  # a weight -> its rows [output channels, values]

ALIGNED = 0.9999  # least |cosine| of two rows that are one row; float rounding leaves 1 - 1e-6
LEAST_VALUES = 4  # smaller kernels match by chance


def _first(values: AnyArray) -> AnyArray:
    return values.reshape(values.shape[0], -1)


def _axis(axis: int) -> Layout:
    return lambda values: np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)


def _split(axis: int, transposed: bool) -> Layout:
    """Split axes at `axis` into two sides; the rows run over the second side when `transposed`."""

    def layout(values: AnyArray) -> AnyArray:
        matrix = values.reshape(int(np.prod(values.shape[:axis])), -1)
        return matrix.T if transposed else matrix

    return layout


CONSTANT_LAYOUTS: dict[str, tuple[Layout, ...]] = {  # operators whose constants are not [output channels, ...]
    "DEPTHWISE_CONV_2D": (_axis(-1),),
    "CONV_3D": (_axis(-1),),
    "CONV_3D_TRANSPOSE": (_axis(-2),),
    "BATCH_MATMUL": (_axis(-1), _axis(-2)),
}


@dataclass(frozen=True)
class _Kernel:
    """A weight of a layer, and one way to lay it out."""

    path: str
    weight: Any
    gate: tuple[int, int]  # (number, of how many) the last axis is cut into
    layout: Layout

    def rows(self) -> AnyArray:
        values = np.asarray(self.weight)
        number, gates = self.gate
        return self.layout(np.split(values, gates, axis=-1)[number])


def match_weights(graph: Graph, tree: Node) -> dict[OpKey, tuple[str, ...]]:
    """Return every operator with a kernel -> the paths of the layers that hold it, in the order of the tree.

    Operators whose constants equal no layer's weights are left out.
    """
    kernels = _kernels_by_size(tree)
    by_constant = IdentityCache()  # constants are shared by operators
    layers_of: dict[OpKey, tuple[str, ...]] = {}
    for key, op in graph.ops():
        for data in _kernel_constants(graph.subgraphs[key[0]], op):
            holders = by_constant.once(partial(_holders, data, op.code, kernels), data, key=op.code)
            if holders:
                layers_of[key] = holders
                break
    return layers_of


def _kernel_constants(subgraph: Subgraph, op: Op) -> Iterator[AnyArray]:
    for slot in facts_of(op.code).slots_of_weights:
        index = op.inputs[slot] if slot < len(op.inputs) else ABSENT
        data = subgraph.tensors[index].data if index != ABSENT else None
        if data is not None and data.dtype == np.float32 and data.ndim >= 2 and data.size >= LEAST_VALUES:
            yield data


def _kernels_by_size(tree: Node) -> dict[tuple[int, int], list[_Kernel]]:
    """Return all ways to lay out all kernels, by the shape of their rows."""
    kernels: dict[tuple[int, int], list[_Kernel]] = {}
    for node in nodes(tree):
        for weight in own_weights(node):
            shape = tuple(int(size) for size in weight.shape)
            if len(shape) < 2 or 0 in shape:
                continue
            for gates in (1, 4) if "LSTM" in type(node.layer).__name__ and shape[-1] % 4 == 0 else (1,):
                cut = (*shape[:-1], shape[-1] // gates)
                for size, layout in _layouts(cut).items():
                    for gate in range(gates):
                        kernels.setdefault(size, []).extend(
                            _Kernel(node.path, weight, (gate, gates), way) for way in layout
                        )
    return kernels


def _layouts(shape: tuple[int, ...]) -> dict[tuple[int, int], list[Layout]]:
    """Return the layouts that the converter may give a kernel of `shape`, by the shape of the rows.

    Dense and recurrent kernels are split before the last axis, those of attention before any; convolutions have their
    output channels last (transposed ones last but one), depthwise ones in the last two.
    """
    count = int(np.prod(shape))
    ways: list[tuple[int, Layout]] = [(shape[0], _first)]
    for axis in range(1, len(shape)):
        inputs = int(np.prod(shape[:axis]))
        ways += [(count // inputs, _split(axis, True))] + ([(inputs, _split(axis, False))] if axis > 1 else [])
    if len(shape) > 2:
        ways += [(shape[-2], _axis(-2))]
    layouts: dict[tuple[int, int], list[Layout]] = {}
    for rows, layout in ways:
        if rows:
            layouts.setdefault((rows, count // rows), []).append(layout)
    return layouts


def _holders(data: AnyArray, code: str, kernels: Mapping[tuple[int, int], list[_Kernel]]) -> tuple[str, ...]:
    holders: dict[str, None] = {}
    for layout in CONSTANT_LAYOUTS.get(code, (_first,)):
        rows = layout(data)
        if rows.shape[1] < 2:
            continue  # all rows of one value have one direction
        for kernel in kernels.get((rows.shape[0], rows.shape[1]), ()):
            if kernel.path not in holders and aligned(rows, kernel.rows()):
                holders[kernel.path] = None
    return tuple(holders)


def aligned(first: AnyArray, second: AnyArray) -> bool:
    """Return whether the rows of two matrices agree up to a factor per row; rows of zeros agree with everything."""
    sample = np.linspace(0, len(first) - 1, min(len(first), 8)).astype(int)
    for some in (sample, slice(None)):
        a, b = first[some].astype(np.float64), second[some].astype(np.float64)
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        told = lengths > 0
        if np.any(np.abs(np.einsum("rv,rv->r", a, b))[told] < ALIGNED * lengths[told]):
            return False
    return bool(told.any())
