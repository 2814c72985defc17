"""Rounding whose errors add up to nothing: SQuant (Guo et al. 2022, arXiv 2202.07471), on the ranges of `mse_clip`.

The inputs of a layer, often all positive after ReLU, have much in common: with x = m (1, ..., 1) + rest, the error of
an output is m sum_k e_k and what the rest makes of the e_k. Rounding to nearest keeps every e_k small, and their sum is
that of many small numbers; clipping shifts it, too. SQuant rounds a few values the other way, those nearest to the
middle between two codes first: until the sum of each kernel, then that of each output channel, is within half a step.
No data is read.
"""

from dataclasses import replace

import numpy as np

from tfq_converters.graph import Float64Array, Int64Array
from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms.mse_clip import clipped
from tfq_fine.algorithms.problem import WeightProblem
from tfq_fine.numerics import affine

VALUES = 1 << 20  # a slice of output channels has about so many values


def squant(problem: WeightProblem) -> WeightCodes:
    """Return the codes of `mse_clip`, some of them the next ones, so that errors of kernels and channels add up to 0.

    A weight whose axes are not known, and a table whose rows are looked up, keep the codes of `mse_clip`.

    Options:
        smallest: as in `mse_clip`.
        candidates: as in `mse_clip`.
    """
    return with_balanced_errors(
        problem, clipped(problem, problem.options["smallest"], int(problem.options["candidates"]))
    )


def with_balanced_errors(problem: WeightProblem, rounded: WeightCodes) -> WeightCodes:
    """Return codes of the same scales whose errors add up to less; none moves by more than one code.

    Args:
        problem: the weight, its axes and the format of the codes.
        rounded: the nearest codes.
    """
    axes = problem.axes
    if axes is None or axes.slot == 0:
        return rounded  # slot 0 of linear operators is for activations; rows of a table are looked up, not added up
    first = (axes.channel,) if axes.inputs is None else (axes.channel, axes.inputs)
    ones = replace(rounded, codes=np.ones_like(rounded.codes), zero_point=np.zeros_like(rounded.zero_point))
    error, step, codes = (
        np.moveaxis(array, first, range(len(first)))
        for array in (rounded.dequantize() - problem.weight, ones.dequantize(), rounded.codes)
    )
    balanced = np.empty(codes.shape, codes.dtype)
    length = max(1, VALUES * len(codes) // max(codes.size, 1))
    for start in range(0, len(codes), length):
        part = slice(start, start + length)
        kernels = (len(codes[part]), 1 if axes.inputs is None else codes.shape[1], -1)
        errors, steps = (array[part].reshape(kernels).astype(np.float64) for array in (error, step))
        moved = codes[part].reshape(kernels).astype(np.int64)
        for rows in ((kernels[0] * kernels[1], -1), (kernels[0], -1)):
            errors, moved = _flipped(errors.reshape(rows), steps.reshape(rows), moved.reshape(rows), problem.codes)
        balanced[part] = moved.reshape(codes[part].shape)
    return replace(rounded, codes=np.ascontiguousarray(np.moveaxis(balanced, range(len(first)), first)))


def _flipped(
    errors: Float64Array, steps: Float64Array, codes: Int64Array, form: affine.CodeFormat
) -> tuple[Float64Array, Int64Array]:
    """Return (errors, codes) after the flips of each row whose sum of errors is the least of all numbers of flips.

    Args:
        errors: stored minus exact values, [rows, K].
        steps: the scale of each value, [rows, K]; negative where codes count downwards.
        codes: [rows, K].
        form: the limits of the codes.
    """
    total = errors.sum(axis=1, keepdims=True)
    sign, size = np.sign(total), np.abs(steps)
    next_code = codes - (sign * np.sign(steps)).astype(np.int64)
    may = (errors * sign > 0) & (next_code >= form.lowest) & (next_code <= form.highest) & (steps != 0)
    share = np.divide(np.abs(errors), size, out=np.zeros_like(errors), where=may)  # flips of the largest cost least
    order = np.argsort(-share, axis=1, kind="stable")
    taken_back = np.cumsum(np.take_along_axis(np.where(may, size, np.inf), order, axis=1), axis=1)
    left = np.abs(np.abs(total) - np.concatenate([np.zeros_like(total), taken_back], axis=1))
    flips = np.zeros(errors.shape, bool)
    np.put_along_axis(flips, order, np.arange(errors.shape[1]) < left.argmin(axis=1)[:, None], axis=1)
    return np.where(flips, errors - sign * size, errors), np.where(flips, next_code, codes)
