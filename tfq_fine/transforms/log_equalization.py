"""Logarithmic activation equalization (LAE) of FPTQ: large channels shrink to the logarithm of their range.

Li et al. 2023 (arXiv 2308.15987):

    s_j = max|X_j| / log2(2 + max|X_j|)        X' = X diag(s)^-1        W' = diag(s) W

so that max|X'_j| = log2(2 + max|X_j|). Weights play no part in s, which suits 4-bit weights in blocks. The range v of
an activation says how it is quantized: up to v0 = 15 with one static scale, up to v1 = 150 with one after LAE, and
beyond v1 dynamically, with a scale for each token.
"""

from typing import Literal

import numpy as np

from tfq_converters.graph import Float64Array

V0, V1 = 15.0, 150.0
Strategy = Literal["static", "equalized", "dynamic"]


def log_factors(activation: Float64Array) -> Float64Array:
    """Return s [C] for max|X_j| [C]; 1 for channels without values.

    >>> log_factors(np.array([14.0, 2.0, 0.0])).tolist()
    [3.5, 1.0, 1.0]
    """
    x = np.where(activation > 0, activation, 2.0)
    factors: Float64Array = x / np.log2(2 + x)
    return factors


def strategy(largest: float) -> Strategy:
    """Return how an activation whose largest magnitude is this is quantized.

    >>> [strategy(v) for v in (15.0, 15.1, 150.0, 150.1)]
    ['static', 'equalized', 'equalized', 'dynamic']
    """
    return "static" if largest <= V0 else "equalized" if largest <= V1 else "dynamic"
