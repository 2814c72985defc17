"""Sparse constants: stored values and the tree of their positions -> a dense array.

The format stores the nonzero values (or nonzero blocks) of a constant in an order of levels, one per dimension and one
per dimension of a block. A dense level lists all its indices; a compressed one lists those that are there, as rows do
in CSR: `segments[k]` to `segments[k + 1]` are the entries of parent k.
"""

from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import DimensionType

from tfq_converters.errors import TfqError
from tfq_converters.graph import AnyArray, Int64Array


def dense(values: AnyArray, shape: tuple[int, ...], sparsity: Any) -> AnyArray:
    """Return the constant of `shape` that holds `values` where `sparsity` says, and 0 elsewhere.

    Args:
        values: the stored values, flat.
        shape: the shape of the constant.
        sparsity: the schema's SparsityParameters.

    Raises:
        TfqError: the positions do not fit the shape, or are not as many as the values.
    """
    rank = len(shape)
    order = [int(number) for number in sparsity.traversalOrder]
    blocked = [] if sparsity.blockMap is None else [int(axis) for axis in sparsity.blockMap]
    if sorted(order) != list(range(rank + len(blocked))) or len(sparsity.dimMetadata) != len(order):
        raise TfqError(f"its {len(sparsity.dimMetadata)} levels do not fit shape {shape}")
    sizes = dict(zip(order, (int(level.denseSize) for level in sparsity.dimMetadata), strict=True))
    levels = _positions(sparsity.dimMetadata)
    if len(levels[0]) != len(values):
        raise TfqError(f"it stores {len(values)} values and {len(levels[0])} positions")
    position = dict(zip(order, levels, strict=True))
    axes = [position[axis] for axis in range(rank)]
    for block, axis in enumerate(blocked):
        axes[axis] = axes[axis] * sizes[rank + block] + position[rank + block]
    if any(len(indices_of) and indices_of.max() >= size for indices_of, size in zip(axes, shape, strict=True)):
        raise TfqError(f"it stores values outside of shape {shape}")
    result = np.zeros(shape, values.dtype)
    result[tuple(axes)] = values
    return result


def _positions(levels: Any) -> list[Int64Array]:
    """Return, for every level, the index of each stored value in it."""
    positions: list[Int64Array] = []
    parents = np.zeros(1, np.int64)  # where the entries of the level before are listed
    for level in levels:
        if level.format == DimensionType.DENSE:
            size = int(level.denseSize)
            repeats: Any = size
            indices = np.tile(np.arange(size), len(parents))
            entries = np.repeat(parents * size, size) + indices
        else:
            segments, listed = (_numbers(array) for array in (level.arraySegments, level.arrayIndices))
            if len(segments) and (parents.max(initial=0) + 1 >= len(segments)):
                raise TfqError("a level of its positions is cut off")
            repeats = segments[parents + 1] - segments[parents]
            ends = np.cumsum(repeats)
            entries = np.arange(int(repeats.sum())) + np.repeat(segments[parents] - (ends - repeats), repeats)
            indices = listed[entries]
        positions = [np.repeat(array, repeats) for array in positions]
        positions.append(indices)
        parents = entries
    return positions


def _numbers(vector: Any) -> Int64Array:
    return np.asarray(vector.values, np.int64)
