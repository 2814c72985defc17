"""The linear layers in plain numpy, float64, over weights laid out as the file has them: slow, short, independent."""

import itertools

import numpy as np


def padded(x: np.ndarray, window: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """`x` [batch, ..., channels] with the zeros that padding "same" puts around it."""
    pads = [(0, 0)]
    for size, width, stride in zip(x.shape[1:-1], window, strides, strict=True):
        missing = max((-(-size // stride) - 1) * stride + width - size, 0)
        pads.append((missing // 2, missing - missing // 2))
    return np.pad(x, [*pads, (0, 0)])


def _views(x: np.ndarray, window: tuple[int, ...], strides: tuple[int, ...]):  # type: ignore[no-untyped-def]
    """(place in the window, what the outputs see there [batch, ..., channels])."""
    counts = [(s - w) // t + 1 for s, w, t in zip(x.shape[1:-1], window, strides, strict=True)]
    for place in itertools.product(*map(range, window)):
        steps = zip(place, counts, strides, strict=True)
        yield place, x[(slice(None), *(slice(p, p + (n - 1) * t + 1, t) for p, n, t in steps))]


def dense(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """[..., K], [N, K] -> [..., N]."""
    return x @ weight.T


def convolution(x: np.ndarray, weight: np.ndarray, stride: int = 1, same: bool = True, groups: int = 1) -> np.ndarray:
    """[batch, ..., I * groups], [O, ..., I] -> [batch, ..., O]: of any number of dimensions."""
    window = weight.shape[1:-1]
    strides = (stride,) * len(window)
    x = padded(x, window, strides) if same else x
    parts = zip(np.split(x, groups, axis=-1), np.split(weight, groups), strict=True)
    sums = [
        sum(view @ w[(slice(None), *place)].T for place, view in _views(part, window, strides)) for part, w in parts
    ]
    return np.concatenate(sums, axis=-1)


def depthwise(x: np.ndarray, weight: np.ndarray, multiplier: int = 1) -> np.ndarray:
    """[batch, h, w, C], [1, h, w, C * multiplier] -> valid [batch, h', w', C * multiplier]."""
    window = weight.shape[1:3]
    views = _views(np.repeat(x, multiplier, axis=-1), window, (1, 1))
    total: np.ndarray = sum(view * weight[(0, *place)] for place, view in views)
    return total


def transposed(x: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """[batch, h, w, I], [O, a, b, I] -> padding "same" [batch, h * stride, w * stride, O]."""
    batch, height, width, _ = x.shape
    channels, *window = weight.shape[:3]
    whole = np.zeros((batch, *((n - 1) * stride + w for n, w in zip((height, width), window, strict=True)), channels))
    for a, b in itertools.product(*map(range, window)):
        whole[:, a : a + height * stride : stride, b : b + width * stride : stride][:, :height, :width] += (
            x @ weight[:, a, b].T
        )
    first = [max(w - stride, 0) // 2 for w in window]
    rows, columns = (slice(f, f + n * stride) for f, n in zip(first, (height, width), strict=True))
    return whole[:, rows, columns]


def batch_matmul(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """[a, b, c], [b, c, d] -> [a, b, d]."""
    return np.einsum("abc,bcd->abd", x, weight)


def lookup(ids: np.ndarray, table: np.ndarray) -> np.ndarray:
    """[...], [rows, depth] -> [..., depth]."""
    return table[ids]
