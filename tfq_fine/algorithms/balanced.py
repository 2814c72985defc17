"""The best of several ways to round a weight, by the error of the outputs on samples that none was fitted to."""

from collections.abc import Iterator

import numpy as np

from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms.clipped_scales import clipped_scales
from tfq_fine.algorithms.comq import descended
from tfq_fine.algorithms.gptq import compensated
from tfq_fine.algorithms.least_squares import LeastSquares, Rounded
from tfq_fine.algorithms.problem import WeightProblem
from tfq_fine.numerics import affine


def balanced(problem: WeightProblem) -> WeightCodes:
    """Return the codes of `mse_clip`, `qronos` or `comq`, whichever has the smallest error on samples kept apart.

    Options:
        damping: the share of the mean diagonal of the second moment that is added to its diagonal.
        act_order: as in `gptq`.
        sweeps: as in `comq`.
    """
    squares, rounded = compensated(problem, problem.moments())
    return squares.codes(best_apart(squares, _candidates(squares, rounded)))


def _candidates(squares: LeastSquares, rounded: Rounded) -> Iterator[Rounded]:
    yield clipped(squares)
    yield rounded
    yield descended(squares, rounded, int(squares.problem.options["sweeps"]))


def clipped(squares: LeastSquares) -> Rounded:
    """Return the codes of `mse_clip`."""
    problem = squares.problem
    scale, zero_point = clipped_scales(problem, problem.weight)
    return squares.rounded(affine.encode(problem.weight, problem.block, scale, zero_point, problem.codes))


def best_apart(squares: LeastSquares, candidates: Iterator[Rounded]) -> Rounded:
    """Return the candidate of the smallest output error on the samples that were kept apart."""
    moments = squares.problem.moments(apart=True)
    errors, every = [], []
    for rounded in candidates:
        error = float(moments.error(squares.weight, squares.values(rounded)).sum())
        errors.append(error if np.isfinite(error) else np.inf)
        every.append(rounded)
    return every[int(np.argmin(errors))]
