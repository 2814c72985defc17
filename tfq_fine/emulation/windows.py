"""The input values that each position of a convolution's window meets."""

from typing import Any

from tfq_converters.graph import Op
from tfq_converters.operators import padding_of


def padded(tf: Any, op: Op, values: Any, window: tuple[int, int]) -> Any:
    """Return `values` [N, H, W, C] with the zeros that SAME fills up with."""
    if padding_of(op) != "SAME":
        return values
    space = values.shape[1:3]
    sizes = space if None not in space else tf.unstack(tf.shape(values)[1:3])
    missing = [
        tf.maximum((-(-size // stride) - 1) * stride + (length - 1) * dilation + 1 - size, 0)
        for size, length, stride, dilation in zip(sizes, window, strides(op), dilations(op), strict=True)
    ]
    return tf.pad(values, [[0, 0], *([count // 2, count - count // 2] for count in missing), [0, 0]])


def strides(op: Op) -> tuple[int, int]:
    """Return the strides of height and width."""
    return op.option("strideH"), op.option("strideW")


def dilations(op: Op) -> tuple[int, int]:
    """Return the dilations of height and width."""
    return op.option("dilationHFactor"), op.option("dilationWFactor")


def met(position: tuple[int, int], window: tuple[int, int], steps: tuple[int, int], rates: tuple[int, int]) -> Any:
    """Return the slices of height and width of the padded values that a position of the window meets."""
    return tuple(
        slice(at * rate, (at - length + 1) * rate or None, step)
        for at, length, step, rate in zip(position, window, steps, rates, strict=True)
    )
