"""Half-quadratic quantization: scales and zero points of least |error|^p, p < 1, which outliers of a block pull less.

Badri and Shaji 2023, "Half-Quadratic Quantization of Large Machine Learning Models" (Mobius Labs): min |W - V|_p^p is
split by E = W - V; E is the generalized soft threshold of W - V (their equation 4), and the zero point z of each group
the mean of Q - (W - E) / s (equation 6). Zero points in a file are whole numbers, which a mean of less than half a step
never moves, so that the scale is fitted, too, by <Q - z, W - E> / <Q - z, Q - z>.
"""

from collections.abc import Iterator

import numpy as np

from tfq_converters.graph import Float32Array, Float64Array
from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms.clipped_scales import Scales, best_scales, clipped_scales
from tfq_fine.algorithms.problem import WeightProblem
from tfq_fine.numerics import affine

STEPS, BETA, KAPPA = 20, 10.0, 1.01  # as the authors set them: beta grows by kappa at each step


def hqq(problem: WeightProblem) -> WeightCodes:
    """Return the codes of least |error|^p in every block among the steps of the method, and those of `mse_clip`.

    Options:
        norm: p.
    """
    weight, block, form, norm = problem.weight, problem.block, problem.codes, problem.options["norm"]
    best = best_scales(problem, weight, _steps(problem), lambda codes: _error(weight, codes, norm))
    return affine.encode(weight, block, *best, form)


def _steps(problem: WeightProblem) -> Iterator[Scales]:
    """Yield the scales and zero points of `mse_clip`, and those of each step from there."""
    weight, norm = problem.weight, problem.options["norm"]
    scale, zero_point = clipped_scales(problem, weight)
    yield scale, zero_point
    typical = max(float(np.abs(weight).mean()), affine.TINY)  # the threshold is of weights about 1
    beta = BETA
    for _ in range(STEPS):
        codes = affine.encode(weight, problem.block, scale, zero_point, problem.codes)
        error = (weight - codes.dequantize()) / typical
        kept = np.sign(error) * np.maximum(np.abs(error) - np.abs(error + 1e-8) ** (norm - 1) / beta, 0.0) * typical
        scale, zero_point = _fitted(problem, codes, weight - kept)
        beta *= KAPPA
        yield scale, zero_point


def _fitted(problem: WeightProblem, codes: WeightCodes, values: Float32Array) -> Scales:
    """Return the scales, and the zero points where there are any, of `values` for given codes."""
    form, blocks = problem.codes, affine.split(codes.codes.astype(np.float64), codes.block)
    within, target = tuple(range(1, blocks.ndim, 2)), affine.split(values.astype(np.float64), codes.block)
    filled = affine.split(np.ones(values.shape), codes.block)  # short blocks have fewer values
    zero_point = codes.zero_point
    if not form.symmetric:
        shifted = (blocks - target / affine.per_block(codes.scale.astype(np.float64))) * filled
        mean = np.rint(shifted.sum(axis=within) / filled.sum(axis=within))
        zero_point = np.clip(mean, form.lowest, form.highest).astype(np.int64)
    units = (blocks - affine.per_block(zero_point)) * filled
    squares = np.square(units).sum(axis=within)
    best = np.where(squares > 0, (units * target).sum(axis=within) / np.maximum(squares, 1.0), codes.scale)
    scale = np.where(best * codes.scale > 0, best, codes.scale).astype(np.float32)
    return problem.floored(affine.ROUNDED_SCALES[form.scales](scale), zero_point)


def _error(weight: Float32Array, codes: WeightCodes, norm: float) -> Float64Array:
    """Return the sum of |error|^p in every block."""
    blocks = affine.split(np.abs(weight - codes.dequantize()).astype(np.float64) ** norm, codes.block)
    total: Float64Array = blocks.sum(axis=tuple(range(1, blocks.ndim, 2)))
    return total
