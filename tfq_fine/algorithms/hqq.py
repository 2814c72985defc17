"""Half-quadratic quantization: scales or zero points of least |error|^p, p < 1, which outliers of a block pull less.

Badri and Shaji 2023, "Half-Quadratic Quantization of Large Machine Learning Models" (Mobius Labs): min |W - V|_p^p is
split by E = W - V; E is the generalized soft threshold of W - V (their equation 4), and the zero point of each group
the mean of Q - (W - E) / s (equation 6). Codes without zero points have their scale fitted in its place, by
<Q, W - E> / <Q, Q>.
"""

import numpy as np

from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms.clipped_scales import clipped_scales
from tfq_fine.algorithms.problem import WeightProblem
from tfq_fine.numerics import affine

STEPS, BETA, KAPPA = 20, 10.0, 1.01  # as the authors set them: beta grows by kappa at each step


def hqq(problem: WeightProblem) -> WeightCodes:
    """Return the codes of least |error|^p in every block among the steps of the method, and those of `mse_clip`.

    Options:
        norm: p.
    """
    weight, block, form, norm = problem.weight, problem.block, problem.codes, problem.options["norm"]
    scale, zero_point = clipped_scales(problem, weight)
    best_scale, best_zero = scale, zero_point
    least = _error(weight, affine.encode(weight, block, scale, zero_point, form), norm)
    typical = max(float(np.abs(weight).mean()), affine.TINY)  # the threshold is of weights about 1
    beta = BETA
    for _ in range(STEPS):
        codes = affine.encode(weight, block, scale, zero_point, form)
        error = (weight - codes.dequantize()) / typical
        kept = np.sign(error) * np.maximum(np.abs(error) - np.abs(error + 1e-8) ** (norm - 1) / beta, 0.0) * typical
        scale, zero_point = _fitted(problem, codes, weight - kept)
        beta *= KAPPA
        now = _error(weight, affine.encode(weight, block, scale, zero_point, form), norm)
        better = now < least
        least = np.where(better, now, least)
        best_scale, best_zero = np.where(better, scale, best_scale), np.where(better, zero_point, best_zero)
    return affine.encode(weight, block, best_scale, best_zero, form)


def _fitted(problem: WeightProblem, codes: WeightCodes, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the zero points of `values` for given codes; the scales where there are no zero points."""
    form, blocks = problem.codes, affine.split(codes.codes.astype(np.float64), codes.block)
    within, target = tuple(range(1, blocks.ndim, 2)), affine.split(values.astype(np.float64), codes.block)
    if not form.symmetric:
        filled = affine.split(np.ones(values.shape), codes.block)  # short blocks have fewer values
        shifted = (blocks - target / affine.per_block(codes.scale.astype(np.float64))) * filled
        zero_point = np.rint(shifted.sum(axis=within) / filled.sum(axis=within))
        return codes.scale, np.clip(zero_point, form.lowest, form.highest).astype(np.int64)
    squares = np.square(blocks).sum(axis=within)
    best = np.where(squares > 0, (blocks * target).sum(axis=within) / np.maximum(squares, 1.0), codes.scale)
    scale = np.where(best * codes.scale > 0, best, codes.scale).astype(np.float32)
    return problem.floored(affine.ROUNDED_SCALES[form.scales](scale), codes.zero_point)


def _error(weight: np.ndarray, codes: WeightCodes, norm: float) -> np.ndarray:
    """Return the sum of |error|^p in every block."""
    blocks = affine.split(np.abs(weight - codes.dequantize()).astype(np.float64) ** norm, codes.block)
    total: np.ndarray = blocks.sum(axis=tuple(range(1, blocks.ndim, 2)))
    return total
