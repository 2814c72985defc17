"""The best of several ways to round a weight, by the error of the outputs on samples that none was fitted to."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tfq_fine.algorithms.comq import descended
from tfq_fine.algorithms.gptq import compensated
from tfq_fine.algorithms.least_squares import nearest
from tfq_fine.algorithms.mse_clip import clipped
from tfq_fine.algorithms.problem import Solution, WeightProblem

BALANCED, BEST = (0.02, 0.2), (0.005, 0.05, 0.2, 1.0)  # dampings


def balanced(problem: WeightProblem) -> Solution:
    """Return the codes of `comq` at two dampings, `mse_clip` or rounding, whichever have least error on samples apart.

    Options:
        sweeps: as in `comq`.
    """
    return _best_of(problem, BALANCED)


def best(problem: WeightProblem) -> Solution:
    """Return the best codes as `balanced` does, at more dampings.

    Options:
        sweeps: as in `comq`.
    """
    return _best_of(problem, BEST)


def _best_of(problem: WeightProblem, dampings: Sequence[float]) -> Solution:
    """Return the codes of least output error on the samples that were kept apart.

    With little damping the weights follow the samples closely, with much of it they stay near the float ones: how much
    is right depends on how many patches there are for each input.
    """
    moments, apart = problem.moments(), problem.moments(apart=True)
    least, chosen = np.inf, None
    gone_through = int(problem.options["sweeps"])
    for damping in dampings:
        tried = replace(problem, options={**problem.options, "damping": damping, "act_order": 0})
        squares, start = compensated(tried, moments)
        candidates = [(descended(squares, start, gone_through), f"comq, damping {squares.damping:g}")]
        if chosen is None:
            candidates = [
                (squares.rounded(clipped(problem)), "mse_clip"),
                (nearest(squares), "round_to_nearest"),
                *candidates,
            ]
        for rounded, how in candidates:
            error = float(apart.error(squares.weight, squares.values(rounded)).sum())
            if chosen is None or error < least:  # NaN is never less
                least, chosen = error, Solution(squares.codes(rounded), how)
    assert chosen is not None
    return chosen
