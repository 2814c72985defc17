"""Products of rows of 8-bit codes with 4-bit weights in blocks, in the order of XNNPACK (qd8-f32-qb4w).

Sums of codes are exact within a block; blocks are added one after the other in float32, onto what the zero point
shifts. The codes depend on the machine: 0 to 255 here, as the kernels for AVX512-VNNI have them; results of other
kernels differ in the last bits.
"""

from functools import cache
from typing import Any

import numpy as np

from tfq_converters.graph import Tensor
from tfq_fine.emulation.constants import Constants

UNSIGNED = 128.0


def in_blocks(tf: Any, codes: Any, zero: Any, weight: Tensor, constants: Constants) -> Any:
    """Multiply `codes` [..., K] with zero points [..., 1] by the real `weight` [N, K]: float32 [..., N]."""
    size, (outputs, depth) = weight.affine.block_size, weight.shape
    scales = weight.affine.scale.reshape(outputs, -1).T.astype(np.float32)
    shift = np.zeros(outputs, np.float32)
    whole = np.add.reduceat(weight.constant, range(0, depth, size), axis=1, dtype=np.int64)
    for sums, scale in zip(whole.T, scales, strict=True):
        shift -= sums.astype(np.float32) * scale
    rows = tf.reshape(codes + UNSIGNED, [-1, depth // size, size])
    kernel = tf.reshape(constants.stored(tf, weight), [outputs, depth // size, size])
    start = (tf.reshape(zero, [-1, 1]) + UNSIGNED) * shift
    totals = _compiled(tf)(tf.transpose(rows, (1, 0, 2)), tf.transpose(kernel, (1, 2, 0)), tf.constant(scales), start)
    return tf.reshape(totals, tf.concat([tf.shape(codes)[:-1], [outputs]], 0))


@cache
def _compiled(tf: Any) -> Any:
    """Map (rows [blocks, n, size], kernel [blocks, size, m], scales [blocks, m], start [n, m]) to sums [n, m]."""

    def sums(rows: Any, kernel: Any, scales: Any, start: Any) -> Any:
        def step(index: Any, total: Any) -> Any:
            exact = tf.cast(tf.matmul(rows[index], kernel[index]), tf.float64)
            product = exact * tf.cast(scales[index], tf.float64)
            return index + 1, tf.cast(product + tf.cast(total, tf.float64), tf.float32)

        return tf.while_loop(lambda index, _: index < tf.shape(scales)[0], step, (0, start))[1]

    return tf.function(sums, autograph=False, jit_compile=True)
