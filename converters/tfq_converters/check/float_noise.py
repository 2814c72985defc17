"""How far a float32 operator may be from the exact value, which integer kernels round once.

Rounding errors of a sum behave like a random walk (Higham and Mary, A New Approach to Probabilistic Rounding Error
Analysis, 2019): the error of n additions is about sqrt(n) * 2^-24 * (sum of the magnitudes). On 16 bits, of long sums,
that is more than a step of the result, while the integer kernel is right. GELU takes x / 2 times (1 + erf(x / sqrt 2)):
far below 0 that sum cancels, and what is left are the last bits of 1, of which approximations of erf may lose a few.
"""

from collections.abc import Mapping

import numpy as np

from tfq_converters.graph import Op
from tfq_converters.operators import OPS
from tfq_converters.quantized import OpEncoding, simulated_weight

EPSILON = 2.0**-24
LOST_BITS = 8.0  # three bits
MEANS = frozenset({"MEAN", "AVERAGE_POOL_2D"})
SUMS = frozenset({"SUM"})


def float_noise(op: Op, encoding: OpEncoding, values: Mapping[int, np.ndarray], results: int) -> float:
    """The error of `op` in float32, in real values; 0 of an operator that adds nothing up.

    Args:
        op: the operator.
        encoding: its numbers.
        values: slot -> what it reads there, decoded.
        results: how many values it writes.
    """
    row = OPS[op.code]
    if op.code == "GELU":
        return LOST_BITS * EPSILON * float(np.abs(values[0]).max(initial=0.0)) / 2
    if op.code in MEANS | SUMS:
        count = values[0].size / max(results, 1)
        return EPSILON * count**0.5 * _size(values[0]) * (count if op.code in SUMS else 1.0)
    slot = 0 if op.code == "BATCH_MATMUL" else (row.data or (0,))[0]
    if op.code == "BATCH_MATMUL" or (row.weight in values):
        if not {0, 1} <= set(values):
            return 0.0
        count = values[0].shape[-2 if op.option("adjX") else -1] if op.code == "BATCH_MATMUL" else values[0].shape[-1]
        return EPSILON * count**1.5 * _size(values[0]) * _size(values[1])
    if row.weight is None or row.weight not in encoding.weights:
        return 0.0
    weight = np.abs(simulated_weight(encoding.weights[row.weight]))
    axis = row.channel_axis or 0
    magnitudes = weight.sum(axis=tuple(a for a in range(weight.ndim) if a != axis))
    count = weight.size / weight.shape[axis]
    return EPSILON * count**0.5 * float(magnitudes.max(initial=0.0)) * _size(values[slot])


def _size(values: np.ndarray) -> float:
    """The root mean square."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else 0.0
