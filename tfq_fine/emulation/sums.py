"""Float sums in the order of XNNPACK: of products, fused multiply-adds one by one; of means, one value after the other.

The order of a sum decides its last bit, and what quantizes it then finds another code now and then; after twenty
layers nothing is left of the agreement. A fused multiply-add is a product and a sum in float64, rounded to float32.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from tfq_converters.graph import Op
from tfq_fine.emulation.depthwise import depthwise
from tfq_fine.emulation.windows import dilations, met, padded, strides

ORDERED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"})  # whose order is known
UNROLLED = 8  # products of one step of the loop, whose sums stay in registers


def ordered_sums(tf: Any, op: Op, values: Any, kernel: Any, bias: Any) -> Any:
    """Return a float operator of `ORDERED`, without its activation."""
    if op.code == "DEPTHWISE_CONV_2D":
        return depthwise(tf, op, values, kernel, bias)
    if op.code == "CONV_2D":
        return _convolution(tf, op, values, kernel, bias)
    if op.code == "BATCH_MATMUL":
        left = tf.linalg.matrix_transpose(values) if op.option("adjX") else values
        return matrix_product(tf, left, tf.linalg.matrix_transpose(kernel) if op.option("adjY") else kernel)
    rows = values if op.option("keepNumDims") else tf.reshape(values, [-1, kernel.shape[1]])
    return _along_last(tf, rows, tf.transpose(kernel), bias)


def _convolution(tf: Any, op: Op, values: Any, kernel: Any, bias: Any) -> Any:
    """Group by group; position of the window by position, row by row, and channel by channel."""
    height, width, inputs = kernel.shape[1:]
    values, steps, rates = padded(tf, op, values, (height, width)), strides(op), dilations(op)
    groups = values.shape[-1] // inputs
    biases = [None] * groups if bias is None else tf.split(bias, groups)
    parts = []
    for part, own, total in zip(tf.split(values, groups, -1), tf.split(kernel, groups), biases, strict=True):
        for row in range(height):
            for column in range(width):
                rows, columns = met((row, column), (height, width), steps, rates)
                total = _along_last(tf, part[:, rows, columns], tf.transpose(own[:, row, column]), total)
        parts.append(total)
    return tf.concat(parts, -1)


def _along_last(tf: Any, values: Any, kernel: Any, start: Any) -> Any:
    """Multiply the rows along the last axis of `values` by `kernel` [k, m], added onto `start` [m] or like them."""
    depth, width = kernel.shape
    if start is not None and start.shape.rank > 1:
        start = tf.reshape(start, [-1, width])
    product = matrix_product(tf, tf.reshape(values, [-1, depth]), kernel, start)
    return tf.reshape(product, tf.concat([tf.shape(values)[:-1], [width]], 0))


def matrix_product(tf: Any, rows: Any, kernel: Any, start: Any = None) -> Any:
    """Multiply `rows` [..., n, k] by `kernel` [..., k, m], onto `start` (like it or [m]): float32 [..., n, m]."""
    return _compiled(tf)(rows, kernel, tf.zeros(tf.shape(kernel)[-1:]) if start is None else start)


def mean(tf: Any, values: Any, axes: Sequence[int], keep: bool) -> Any:
    """Return the mean along `axes`, the last not among them: the sum times what float32 has for one over the count."""
    shape = tf.shape(values)
    kept = [axis for axis in range(values.shape.rank) if axis not in axes]
    count = tf.reduce_prod(tf.gather(shape, axes))
    rows = tf.reshape(tf.transpose(values, [*kept, *axes]), [-1, count])
    product = matrix_product(tf, rows, tf.ones([count, 1])) * (1.0 / tf.cast(count, tf.float32))
    ones = [axis in axes for axis in range(values.shape.rank)]
    return tf.reshape(product, tf.where(ones, 1, shape) if keep else tf.gather(shape, kept))


@cache  # one function for all, so that each shape is compiled once
def _compiled(tf: Any) -> Any:
    """Map (rows, kernel, start) to sums."""

    def sums(rows: Any, kernel: Any, start: Any) -> Any:
        depth = tf.shape(rows)[-1]
        steps = (depth + UNROLLED - 1) // UNROLLED
        columns = _first(tf, rows, -1, steps * UNROLLED - depth)
        lines = _first(tf, kernel, -2, steps * UNROLLED - depth)

        def step(index: Any, total: Any) -> Any:
            values, factors = (tf.cast(_piece(tf, part, index), tf.float64) for part in (columns, lines))
            for k in range(UNROLLED):
                exact = values[k][..., :, None] * factors[k][..., None, :] + tf.cast(total, tf.float64)
                total = tf.cast(exact, tf.float32)
            return index + 1, total

        leading = tf.broadcast_dynamic_shape(tf.shape(rows)[:-2], tf.shape(kernel)[:-2])
        first = tf.broadcast_to(start, tf.concat([leading, tf.shape(rows)[-2:-1], tf.shape(kernel)[-1:]], 0))
        return tf.while_loop(lambda index, _: index < steps, step, (0, first))[1]

    return tf.function(sums, autograph=False, jit_compile=True)


def _first(tf: Any, values: Any, axis: int, missing: Any) -> Any:
    """Return `values` with `axis` first, and zeros after its end, which change no sum."""
    rank = values.shape.rank
    axis %= rank
    moved = tf.transpose(values, [axis, *(other for other in range(rank) if other != axis)])
    return tf.pad(moved, [[0, missing], *[[0, 0]] * (rank - 1)])


def _piece(tf: Any, part: Any, index: Any) -> Any:
    """Return the values of one step of the loop."""
    rest = part.shape.rank - 1
    return tf.slice(part, [index * UNROLLED, *[0] * rest], [UNROLLED, *[-1] * rest])
