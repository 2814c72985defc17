"""Coordinate descent over codes and scales: each is set to its best value while all others stay.

Zhang et al. 2024, "COMQ: A Backpropagation-Free Algorithm for Post-Training Quantization" (arXiv 2403.07134), sections
3.2 (scales per channel) and 3.3 (greedy order). The error is (V - T) (H + ridge) (V - T)^T about the least squares
optimum T of `LeastSquares`, so that what earlier operators lost is corrected, too. With P = (V - T) (H + ridge), the
best value of column k is v_k - P_k / H_kk (their equation 6), and the best change of a scale s whose codes are u is
-<u, P> / <u, H u> (equation 7). The codes that it starts from are those of `qronos`: a descent never ends above its
start.
"""

from dataclasses import replace

import numpy as np

from tfq_converters.graph import Float64Array
from tfq_fine.algorithms.gptq import LAZY, compensated
from tfq_fine.algorithms.least_squares import LeastSquares, Rounded, nearest
from tfq_fine.algorithms.problem import Solution, WeightProblem


def comq(problem: WeightProblem) -> Solution:
    """Return the codes and scales of coordinate descent from those of `qronos`; never worse than rounding.

    Options:
        damping: the share of the mean diagonal of the second moment that is added to its diagonal.
        act_order: as in `gptq`, for the start.
        sweeps: how often all codes and scales are gone through.
    """
    squares, rounded = compensated(problem, problem.moments())
    rounded = descended(squares, rounded, int(problem.options["sweeps"]))
    return Solution(squares.codes(squares.better(rounded, nearest(squares))), squares.said("comq"))


def descended(squares: LeastSquares, start: Rounded, sweeps: int) -> Rounded:
    """Return codes and scales after so many sweeps from `start`."""
    rounded = start
    for _ in range(sweeps):
        before = rounded
        rounded = _best_scales(squares, _best_codes(squares, rounded))
        if np.array_equal(before.codes, rounded.codes) and np.array_equal(before.scale, rounded.scale):
            return rounded
    return _best_codes(squares, rounded)


def _pulls(squares: LeastSquares, values: Float64Array) -> Float64Array:
    return np.asarray((values - squares.target) @ squares.hessian)


def _best_codes(squares: LeastSquares, rounded: Rounded) -> Rounded:
    """Set every column to its best codes, those with the largest second moment first."""
    hessian, codes = squares.hessian, rounded.codes.copy()
    diagonal = np.diagonal(hessian, axis1=1, axis2=2)
    order = np.argsort(-diagonal.mean(axis=0), kind="stable")
    scale, zero_point = rounded.scale[squares.places], rounded.zero_point[squares.places]
    values = squares.values(rounded)
    pulls = _pulls(squares, values)
    for start in range(0, len(order), LAZY):
        columns = order[start : start + LAZY]
        inside = hessian[:, columns[:, None], columns[None, :]]
        local = pulls[..., columns]
        changes = np.zeros_like(local)
        for n, k in enumerate(columns):
            target = values[..., k] - local[..., n] / diagonal[:, k, None]
            codes[..., k] = squares.nearest(target, scale[..., k], zero_point[..., k])
            change = scale[..., k] * (codes[..., k] - zero_point[..., k]) - values[..., k]
            if change.any():
                changes[..., n] = change
                local += change[..., None] * inside[:, None, n]
        values[..., columns] += changes
        pulls += changes @ hessian[:, columns]
    return replace(rounded, codes=codes)


def _best_scales(squares: LeastSquares, rounded: Rounded) -> Rounded:
    """Set every scale to its best value that the file can hold, where that lowers the error."""
    hessian, scales, count = squares.hessian, rounded.scale.copy(), len(rounded.scale)
    values = squares.values(rounded)
    units = rounded.codes - rounded.zero_point[squares.places]
    pulls = _pulls(squares, values)
    _, sets = np.unique(squares.places[0, 0], return_inverse=True)  # blocks are a grid: the same columns in all rows
    for n in range(sets.max() + 1):
        columns = np.flatnonzero(sets == n)
        own, blocks = units[..., columns], squares.places[..., columns[0]].reshape(-1)
        slope = np.einsum("grk,grk->gr", own, pulls[..., columns])
        curvature = np.einsum("grk,grk->gr", own, own @ hessian[:, columns[:, None], columns[None, :]])
        slope, curvature = (np.bincount(blocks, each.reshape(-1), count) for each in (slope, curvature))
        best = np.where(curvature > 0, scales - slope / np.maximum(curvature, 1e-300), scales)
        stored = squares.as_stored(np.where(best * scales > 0, best, scales))
        change = stored - scales
        change = np.where(2 * slope * change + curvature * change**2 < 0, change, 0.0)
        if change.any():
            scales += change
            moved = own * change[squares.places[..., columns]]
            pulls += moved @ hessian[:, columns]
    return replace(rounded, scale=scales)
