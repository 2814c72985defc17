"""Round the inputs of a weight one after the other, and let those that are left make up for each error.

Frantar et al. 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers" (arXiv
2210.17323), section 3 and algorithm 1: with U the upper Cholesky factor of the inverse of the damped second moment, the
error of column k, (w_k - v_k) / U_kk, times U_kj is taken from every later column j. Blocks of columns are brought up
to date as a whole ("lazy batch updates"); "act-order" takes the columns with the largest second moment first.

`qronos` first moves the weights to the least squares optimum on the inputs as quantized operators before it compute
them, V = W + W E[(x - q) q^T] (E[q q^T] + ridge)^-1, so that the rounding also corrects what was lost before (Zhang et
al. 2025, "Qronos: Correcting the Past by Shaping the Future", arXiv 2505.11695, whose closed form for all columns but
the first this is, theorem 1; Li et al. 2025, GPTAQ, arXiv 2504.02692, corrects the same term column by column).
"""

from collections.abc import Callable

import numpy as np

from tfq_converters.graph import Float64Array, Int64Array
from tfq_fine.algorithms.clipped_scales import clipped_scales
from tfq_fine.algorithms.least_squares import LeastSquares, Rounded, factored, inverse_factor, nearest
from tfq_fine.algorithms.moments import Moments
from tfq_fine.algorithms.problem import Solution, WeightProblem

LAZY = 128  # columns that are brought up to date at once


def gptq(problem: WeightProblem) -> Solution:
    """Return codes whose output error on the inputs of the quantized network is small; never above rounding's.

    Options:
        damping: the share of the mean diagonal of the second moment that is added to its diagonal.
        act_order: 1 to take the inputs with the largest second moment first, 0 to take them as they come.
        float_inputs: 1 to see the inputs of the float network, 0 those that the quantized operators before compute.
    """
    moments = problem.float_moments() if problem.options["float_inputs"] else problem.quantized_moments()
    return rounded_in_order(problem, moments, "gptq")


def qronos(problem: WeightProblem) -> Solution:
    """Return codes that also correct what earlier operators lost.

    Options:
        damping: as in `gptq`.
        act_order: as in `gptq`.
    """
    return rounded_in_order(problem, problem.moments(), "qronos")


def rounded_in_order(problem: WeightProblem, moments: Moments, name: str) -> Solution:
    """Return the codes of GPTQ for the optimum that `moments` lead to."""
    squares, rounded = compensated(problem, moments)
    return Solution(squares.codes(squares.better(rounded, nearest(squares))), squares.said(name))


def compensated(problem: WeightProblem, moments: Moments) -> tuple[LeastSquares, Rounded]:
    """Return the least squares problem, and the codes of algorithm 1 for its optimum."""
    squares = factored(problem, moments, problem.options["damping"])
    target = squares.weights(squares.target).astype(np.float32)
    scale, zero_point = (
        array.reshape(-1).astype(np.float64) for array in clipped_scales(problem, target, squares.importance)
    )
    factor, order = squares.factor, None
    if problem.options["act_order"]:
        order = np.argsort(-np.diagonal(squares.hessian, axis1=1, axis2=2), axis=1, kind="stable")
        factor = inverse_factor(_reordered(squares.hessian, order))
    codes = _columns(squares.target, factor, scale[squares.places], zero_point[squares.places], squares.nearest, order)
    return squares, Rounded(codes, scale, zero_point)


def _reordered(hessian: Float64Array, order: Int64Array) -> Float64Array:
    rows = np.take_along_axis(hessian, order[:, :, None], axis=1)
    return np.take_along_axis(rows, order[:, None, :], axis=2)


def _columns(
    target: Float64Array,
    factor: Float64Array,
    scale: Float64Array,
    zero_point: Float64Array,
    to_codes: Callable[[Float64Array, Float64Array, Float64Array], Float64Array],
    order: Int64Array | None,
) -> Float64Array:
    """Round column after column.

    Args:
        target: the real values, float64 [groups, rows, K].
        factor: U, float64 [groups, K, K], of the columns in their order.
        scale: the scale of every value, float64 [groups, rows, K].
        zero_point: the zero point of every value, of that shape.
        to_codes: (values, scales, zero points) -> codes.
        order: [groups, K], the columns in the order of their rounding; None for that of the weight.

    Returns:
        Codes, float64 [groups, rows, K].
    """
    if order is not None:
        target, scale, zero_point = (np.take_along_axis(a, order[:, None, :], 2) for a in (target, scale, zero_point))
    # Copies, for `left` is written into: a contiguous view of one row would be the caller's own target.
    left, scale, zero_point = (a.transpose(0, 2, 1).copy() for a in (target, scale, zero_point))
    codes, count = np.empty(left.shape), left.shape[1]  # [groups, K, rows]: the rows of a column lie side by side
    for start in range(0, count, LAZY):
        stop = min(start + LAZY, count)
        errors = np.empty((len(left), stop - start, left.shape[2]))
        for k in range(start, stop):
            codes[:, k] = to_codes(left[:, k], scale[:, k], zero_point[:, k])
            stored = scale[:, k] * (codes[:, k] - zero_point[:, k])
            error = errors[:, k - start] = (left[:, k] - stored) / factor[:, k, k, None]
            left[:, k + 1 : stop] -= factor[:, k, k + 1 : stop, None] * error[:, None]
        left[:, stop:] -= factor[:, start:stop, stop:].transpose(0, 2, 1) @ errors
    codes = codes.transpose(0, 2, 1)
    return codes if order is None else np.take_along_axis(codes, np.argsort(order, axis=1)[:, None, :], 2)
