"""Clip each block where the sum of rounding error and clipping error is smallest, by Newton's method.

Sakr et al. 2022, "Optimal Clipping and Magnitude-aware Differentiation for Improved Quantization-aware Training" (arXiv
2206.06501), equation 6: s <- sum |w| [|w| > s] / (4^-B / 3 sum [0 < |w| <= s] + sum [|w| > s]), from the mean of |w|.
"""

import numpy as np

from tfq_converters.graph import Float32Array, Float64Array
from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms.clipped_scales import best_scales
from tfq_fine.algorithms.problem import WeightProblem
from tfq_fine.numerics import affine

STEPS = 20  # Newton's method has converged long before, says section 3


def octav(problem: WeightProblem) -> WeightCodes:
    """Return the codes of ranges clipped by equation 6; of the whole range in blocks where that has less error.

    An asymmetric block is clipped at both ends by the same share of its extent.
    """
    weight, block, form = problem.weight, problem.block, problem.codes
    low, high = affine.block_extent(weight, block)
    extent = np.maximum(-low, high)
    share = np.minimum(_clip(weight, block, form.bits) / np.maximum(extent, affine.TINY), 1.0)
    candidates = [
        problem.floored(*affine.weight_scale(low * factor, high * factor, form))
        for factor in (np.ones_like(share), share)
    ]
    best = best_scales(problem, weight, candidates, lambda codes: affine.squared_error(weight, codes))
    return affine.encode(weight, block, *best, form)


def _clip(weight: Float32Array, block: tuple[int, ...], bits: int) -> Float64Array:
    """Return the clipping value of every block, float64 [blocks]."""
    blocks = np.abs(affine.split(weight, block)).astype(np.float64)
    within = tuple(range(1, blocks.ndim, 2))
    count = np.maximum((blocks > 0).sum(axis=within), 1)
    clip: Float64Array = blocks.sum(axis=within) / count
    for _ in range(STEPS):
        beyond = blocks > affine.per_block(clip)
        inside = (~beyond & (blocks > 0)).sum(axis=within)
        divisor = 4.0**-bits / 3.0 * inside + beyond.sum(axis=within)
        clip = np.where(divisor > 0, (blocks * beyond).sum(axis=within) / np.maximum(divisor, 1e-300), clip)
    return clip
