"""Confidence intervals of shares and of mean differences."""

import math

import numpy as np

from tfq_converters.graph import Float64Array

NORMAL_95 = 1.959963984540054  # standard deviations around the mean that hold 95 % of a normal distribution


def share_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of `count` samples (Wilson 1927, the score interval).

    >>> [round(end, 3) for end in share_interval(0.9, 100)]
    [0.826, 0.945]
    """
    z2 = NORMAL_95**2 / count
    middle = (share + z2 / 2) / (1 + z2)
    half = NORMAL_95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count)) / (1 + z2)
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_interval(differences: Float64Array, most: float = 0.0) -> tuple[float, float]:
    """Return the 95 % interval of the mean of differences [n] of n samples that were measured in pairs.

    By the normal distribution. Where all n differences are 0, rarer ones may still be common: at most 3 / n of all
    samples differ then, with 95 % confidence (the "rule of three").

    Args:
        differences: one for each sample.
        most: the largest difference that a sample can have, 1 for right or wrong; 0 where that is unknown.
    """
    count, mean = len(differences), float(np.mean(differences))
    if not differences.any():
        return -3 * most / count, 3 * most / count
    half = NORMAL_95 * float(np.std(differences, ddof=min(1, count - 1))) / math.sqrt(count)
    return mean - half, mean + half
