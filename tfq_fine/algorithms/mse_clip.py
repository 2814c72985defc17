"""Clip the range of each block where that lowers the squared error of its values.

Low-bit codes waste their few steps on outliers: a range a little below the extent rounds the many values finer and
clips the few. The best of a grid of ranges is kept per block (Nagel et al. 2021, "A White Paper on Neural Network
Quantization", arXiv 2106.08295, section 3.1: MSE, searched over a grid).

`mse_clip_weighted` counts the squared error of each value as often as the input that it meets is large: sum_k E[x_k^2]
(v_k - w_k)^2, which is the error of the outputs as long as inputs do not go together (the diagonal of the second
moment: Nagel et al. 2020, arXiv 2004.10568, equation 12 without its other terms).
"""

import numpy as np

from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms.clipped_scales import CANDIDATES, SMALLEST, clipped_scales
from tfq_fine.algorithms.least_squares import from_matrices
from tfq_fine.algorithms.problem import WeightProblem
from tfq_fine.numerics import affine


def mse_clip(problem: WeightProblem) -> WeightCodes:
    """Return the codes of least squared error in every block, of all candidates; never worse than rounding to nearest.

    Options:
        smallest: the smallest range, as a share of the extent of the block.
        candidates: how many ranges are tried between that and the whole extent.
    """
    return clipped(problem, problem.options["smallest"], int(problem.options["candidates"]))


def mse_clip_weighted(problem: WeightProblem) -> WeightCodes:
    """Return the codes of least squared error, weighted by the inputs' second moment, of all candidates.

    Options:
        smallest: as in `mse_clip`.
        candidates: as in `mse_clip`.
    """
    moment, axes, weight = problem.inputs.second_moment, problem.axes, problem.weight
    assert moment is not None and axes is not None, "the row of the algorithm reads it"
    groups, inputs, _ = moment.shape
    squares = np.diagonal(moment, axis1=1, axis2=2)[:, None, :]
    matrices = np.broadcast_to(squares, (groups, weight.size // (groups * inputs), inputs))
    importance = from_matrices(matrices, axes, weight.shape).astype(np.float32)
    smallest, candidates = problem.options["smallest"], int(problem.options["candidates"])
    scales = clipped_scales(problem, weight, importance, smallest, candidates)
    return affine.encode(weight, problem.block, *scales, problem.codes)


def clipped(problem: WeightProblem, smallest: float = SMALLEST, candidates: int = CANDIDATES) -> WeightCodes:
    """Return the codes of `mse_clip` for these options, or for its defaults."""
    scales = clipped_scales(problem, problem.weight, None, smallest, candidates)
    return affine.encode(problem.weight, problem.block, *scales, problem.codes)
