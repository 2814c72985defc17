"""The patches of a linear operator's input: the values that one output value is computed from.

Convolutions have windows of kh * kw * I values, in the order of their weights [O, kh, kw, I]; grouped ones a set of
patches per group, depthwise ones per channel. In a transposed convolution every position of the window meets every
input value, so that its patches are the channels.
"""

import math

import numpy as np

from tfq_converters.graph import Float32Array, Int64Array, Op, Subgraph
from tfq_converters.operators import groups_of, padding_of, weight_axes

SPATIAL = {"CONV_2D": "HW", "DEPTHWISE_CONV_2D": "HW", "CONV_3D": "DHW"}  # as the options name the axes


def patches(data: Float32Array, op: Op, subgraph: Subgraph, at_most: int | None = None, seed: int = 0) -> Float32Array:
    """Return the patches of one run, float32 [groups, patches, K].

    Args:
        data: float32 input of the operator, samples along axis 0.
        op: FULLY_CONNECTED, CONV_2D, DEPTHWISE_CONV_2D, CONV_3D, TRANSPOSE_CONV or BATCH_MATMUL by a constant.
        subgraph: the subgraph that holds it.
        at_most: the number of patches to draw where there are more; None for all of them.
        seed: decides which ones are drawn; the same ones for inputs of one shape.
    """
    if op.code not in SPATIAL:
        rows = data.swapaxes(-1, -2) if op.code == "BATCH_MATMUL" and op.option("adjX") else data
        flat = rows.reshape(-1, rows.shape[-1])
        drawn = _drawn(len(flat), at_most, seed)
        return np.ascontiguousarray(flat if drawn is None else flat[drawn])[None]
    windows = _windows(data, op, _window(op, subgraph))  # [N, *positions, C, *window]
    spatial = len(SPATIAL[op.code])
    sizes, channels = windows.shape[-spatial:], data.shape[-1]
    drawn = _drawn(math.prod(windows.shape[: spatial + 1]), at_most, seed)
    if drawn is not None:
        windows = windows[np.unravel_index(drawn, windows.shape[: spatial + 1])]
    groups = channels if op.code == "DEPTHWISE_CONV_2D" else groups_of(op, subgraph)
    grouped = windows.reshape(-1, groups, channels // groups, *sizes)
    ordered = np.moveaxis(grouped, (1, 2), (0, -1))  # [groups, patches, *window, I]
    return np.ascontiguousarray(ordered).reshape(groups, len(grouped), -1)


def _drawn(count: int, at_most: int | None, seed: int) -> Int64Array | None:
    """Return the indices of `at_most` of `count` patches in ascending order; None for all of them."""
    if at_most is None or count <= at_most:
        return None
    return np.sort(np.random.default_rng(seed).choice(count, at_most, replace=False))


def _window(op: Op, subgraph: Subgraph) -> tuple[int, ...]:
    """Return the sizes of the window of a convolution."""
    (axes,) = weight_axes(op, subgraph)
    shape = subgraph.tensors[op.inputs[axes.slot]].shape
    return shape[:3] if op.code == "CONV_3D" else shape[1:3]


def _windows(data: Float32Array, op: Op, sizes: tuple[int, ...]) -> Float32Array:
    """Return the window of every output position: [N, *positions, C, *window]."""
    pads, starts, steps, reaches = [(0, 0)], [], [], []
    for axis, (name, size) in enumerate(zip(SPATIAL[op.code], sizes, strict=True), 1):
        stride, dilation = op.option(f"stride{name}"), op.option(f"dilation{name}Factor")
        reach = (size - 1) * dilation + 1
        same = padding_of(op) == "SAME"
        count = -(-data.shape[axis] // stride) if same else (data.shape[axis] - reach) // stride + 1
        missing = max((count - 1) * stride + reach - data.shape[axis], 0) if same else 0
        pads.append((missing // 2, missing - missing // 2))
        starts.append(slice(0, (count - 1) * stride + 1, stride))
        steps.append(slice(None, None, dilation))
        reaches.append(reach)
    padded = np.pad(data, [*pads, (0, 0)])
    axes = tuple(range(1, len(sizes) + 1))
    windows = np.lib.stride_tricks.sliding_window_view(padded, reaches, axis=axes)
    picked: Float32Array = windows[(slice(None), *starts, slice(None), *steps)]
    return picked
