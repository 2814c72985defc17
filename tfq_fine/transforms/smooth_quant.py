"""SmoothQuant: outlier channels of an activation are divided by factors that its weights are multiplied by.

Xiao et al. 2022 (arXiv 2211.10438), eq. 4:

    s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)        X' = X diag(s)^-1        W' = diag(s) W

alpha says how much of the range of an activation moves into the weights. The paper has 0.5 for most models, and a grid
for others; each activation gets the one of `ALPHAS` with the least estimated noise (`smoothing_choice`).
"""

import numpy as np

from tfq_converters.graph import Float64Array

ALPHAS = (0.25, 0.35, 0.45, 0.5, 0.55, 0.65, 0.75)
HALF = 0.5  # the one that the paper takes for most models


def smooth_quant_factors(activation: Float64Array, weight: Float64Array, alpha: float) -> Float64Array:
    """Return s [C] of eq. 4 for max|X_j| [C] and max|W_j| [C]; 1 for channels without values or without weights.

    >>> smooth_quant_factors(np.array([16.0, 4.0, 0.0]), np.array([4.0, 1.0, 1.0]), 0.5).tolist()
    [2.0, 2.0, 1.0]
    """
    has_values = (activation > 0) & (weight > 0)
    x, w = np.where(has_values, activation, 1.0), np.where(has_values, weight, 1.0)
    factors: Float64Array = x**alpha / w ** (1 - alpha)
    return factors
