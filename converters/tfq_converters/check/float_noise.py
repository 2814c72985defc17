"""How far a float32 operator may be from the exact value, which integer kernels round once.

Rounding errors of a sum behave like a random walk (Higham and Mary, A New Approach to Probabilistic Rounding Error
Analysis, 2019): the error of n additions is about sqrt(n) * 2^-24 * (sum of the magnitudes). On 16 bits, of long sums,
that is more than a step of the result, while the integer kernel is right. GELU takes x / 2 times (1 + erf(x / sqrt 2)):
far below 0 that sum cancels, and what is left are the last bits of 1, of which approximations of erf may lose a few.
"""

from collections.abc import Mapping

import numpy as np

from tfq_converters.graph import FloatArray, Op
from tfq_converters.operators import data_slot, facts_of
from tfq_converters.quantized import OpEncoding, simulated_weight

EPSILON = 2.0**-24
LOST_BITS = 8.0  # three bits


def float_noise(op: Op, encoding: OpEncoding, values: Mapping[int, FloatArray], results: int) -> float:
    """Return the error of `op` in float32, in real values; 0 of an operator that adds nothing up.

    Args:
        op: the operator.
        encoding: its numbers.
        values: slot -> what it reads there, decoded to float32, of the shape of the tensor.
        results: how many values it writes.
    """
    facts = facts_of(op.code)
    if op.code == "GELU":
        return LOST_BITS * EPSILON * float(np.abs(values[0]).max(initial=0.0)) / 2
    if facts.averages or op.code == "SUM":
        count = values[0].size / max(results, 1)
        return float(EPSILON * count**0.5 * _size(values[0]) * (count if op.code == "SUM" else 1.0))
    if op.code == "BATCH_MATMUL" or (facts.weight in values):
        if not {0, 1} <= set(values):
            return 0.0
        count = values[0].shape[-2 if op.option("adjX") else -1] if op.code == "BATCH_MATMUL" else values[0].shape[-1]
        return float(EPSILON * count**1.5 * _size(values[0]) * _size(values[1]))
    if facts.weight is None or facts.weight not in encoding.weights:
        return 0.0
    weight = np.abs(simulated_weight(encoding.weights[facts.weight]))
    axis = facts.channel_axis or 0
    magnitudes = weight.sum(axis=tuple(a for a in range(weight.ndim) if a != axis))
    count = weight.size / weight.shape[axis]
    return float(EPSILON * count**0.5 * float(magnitudes.max(initial=0.0)) * _size(values[data_slot(op.code)]))


def _size(values: FloatArray) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else 0.0
