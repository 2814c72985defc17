"""The operators of the cells in numpy and double precision, apart from any runtime.

Arrays are laid out as in a `.tflite` file; convolutions pad as "SAME". Biases and roundings are the caller's.
"""

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

from tfq_converters.graph import Float64Array, IntArray

Array = Float64Array


def fully_connected(data: Array, weight: Array) -> Array:
    """Map [rows, K] and [N, K] to [rows, N]."""
    result: Float64Array = data @ weight.T
    return result


def batch_matmul(data: Array, weight: Array) -> Array:
    """Map [..., rows, K] and [K, N] to [..., rows, N]."""
    result: Float64Array = data @ weight
    return result


def add(data: Array, weight: Array) -> Array:
    """Add elementwise arrays of shapes that broadcast."""
    result: Float64Array = data + weight
    return result


def rows(data: IntArray, weight: Array) -> Array:
    """Look up ids [n] in a table [rows, depth]: [n, depth]."""
    result: Float64Array = weight[data]
    return result


def convolution(data: Array, weight: Array) -> Array:
    """Map [batch, *space, I] and [O, *kernel, I / groups] to [batch, *space, O]; stride 1."""
    groups = data.shape[-1] // weight.shape[-1]
    parts = zip(np.split(data, groups, -1), np.split(weight, groups, 0), strict=True)
    return np.concatenate([_window_sum(d, np.moveaxis(w, 0, -1), np.matmul) for d, w in parts], -1)


def convolution_3d(data: Array, weight: Array) -> Array:
    """Map [batch, d, h, w, I] and [*kernel, I, O] to [batch, d, h, w, O]; stride 1."""
    return _window_sum(data, weight, np.matmul)


def depthwise(data: Array, weight: Array) -> Array:
    """Map [batch, h, w, C] and [1, *kernel, C] to [batch, h, w, C]; stride 1."""
    return _window_sum(data, weight[0], np.multiply)


def transposed(data: Array, weight: Array, stride: int = 2) -> Array:
    """Map [batch, h, w, I] and [O, *kernel, I] to [batch, stride * h, stride * w, O]."""
    batch, height, width, _ = data.shape
    kernel = weight.shape[1:3]
    full = np.zeros((batch, (height - 1) * stride + kernel[0], (width - 1) * stride + kernel[1], weight.shape[0]))
    for i, j in product(*map(range, kernel)):
        full[:, i : i + height * stride : stride, j : j + width * stride : stride] += data @ weight[:, i, j].T
    cut = [max(size - stride, 0) // 2 for size in kernel]
    padded = np.pad(full, ((0, 0), (0, stride), (0, stride), (0, 0)))  # where the kernel is smaller than the stride
    return padded[:, cut[0] : cut[0] + height * stride, cut[1] : cut[1] + width * stride]


def _window_sum(data: Array, weight: Array, combine: Callable[[Array, Array], Array]) -> Array:
    """Sum `combine(data at the offset, weight at the offset)` over kernel offsets; weight [*kernel, ...]."""
    space = data.shape[1:-1]
    kernel = weight.shape[: len(space)]
    before = [(size - 1) // 2 for size in kernel]
    padding = [(0, 0), *((b, size - 1 - b) for b, size in zip(before, kernel, strict=True)), (0, 0)]
    padded = np.pad(data, padding)
    result: Float64Array = np.sum([combine(padded[_window(o, space)], weight[o]) for o in _offsets(kernel)], axis=0)
    return result


def _offsets(kernel: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return product(*map(range, kernel))


def _window(offset: tuple[int, ...], space: tuple[int, ...]) -> tuple[slice, ...]:
    return (slice(None), *(slice(o, o + size) for o, size in zip(offset, space, strict=True)))


def lstm(data: Array, weights: tuple[Array, ...], biases: Array) -> Array:
    """Map [batch, time, I], 4 x [C, I], 4 x [C, C] (input, forget, cell, output), biases [4, C] to [batch, time, C]."""
    batch, time, _ = data.shape
    hidden = state = np.zeros((batch, weights[0].shape[0]))
    steps = []
    for t in range(time):
        gates = [data[:, t] @ weights[g].T + hidden @ weights[4 + g].T + biases[g] for g in range(4)]
        take, keep, give = (1 / (1 + np.exp(-gates[g])) for g in (0, 1, 3))
        state = keep * state + take * np.tanh(gates[2])
        hidden = give * np.tanh(state)
        steps.append(hidden)
    return np.stack(steps, 1)


OPERATORS: dict[str, Callable[..., Array]] = {
    "FULLY_CONNECTED": fully_connected,
    "CONV_2D": convolution,
    "DEPTHWISE_CONV_2D": depthwise,
    "TRANSPOSE_CONV": transposed,
    "BATCH_MATMUL": batch_matmul,
    "EMBEDDING_LOOKUP": rows,
    "GATHER": rows,
    "DEQUANTIZE": add,
    "CONV_3D": convolution_3d,
}
