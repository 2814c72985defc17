"""The best candidate of every layer under limits on what the candidates cost together: integer programming.

With x_uc = 1 where unit u gets candidate c: minimize sum loss_uc x_uc, so that every unit has one candidate, and
sum cost_uc x_uc is within the limit for every kind of cost (as the multiple-choice knapsack of Hubara et al. 2021,
arXiv 2006.10518, section 4, and of HAWQ-V3, arXiv 2011.10680, section 3.4).
"""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from tfq_converters.graph import Float64Array
from tfq_converters.reading import silenced
from tfq_fine.mixed_precision.units import Candidate, Unit

Table = Mapping[tuple[Unit, Candidate], float]
ENOUGH = 100.0  # parts of the largest loss, that the whole loss is solved to well enough in
GAP = 1e-4  # relative, of the loss, that the best choice may be missed by


@dataclass(frozen=True)
class Limit:
    """A limit on the sum of one kind of cost."""

    cost: Table
    most: float


def best_choice(units: Sequence[Unit], loss: Table, limits: Sequence[Limit]) -> dict[Unit, Candidate] | None:
    """Return the choice of least loss within the limits; None where there is none.

    Losses span many orders of magnitude, and solvers have absolute tolerances: what loses more alone than the best
    choice so far loses altogether is left out, and the rest is solved again in units of that.

    Args:
        units: the layers.
        loss: the loss of each (unit, candidate), from 0; units may have different candidates.
        limits: what the choice must keep to.
    """
    members, best = set(units), None
    pairs = [pair for pair in loss if pair[0] in members]
    scale = max((loss[pair] for pair in pairs), default=0.0)
    while True:
        choice = _solved(units, pairs, loss, limits, scale)
        if choice is None:
            return best
        total = sum(loss[pair] for pair in choice.items())
        if best is not None and total >= sum(loss[pair] for pair in best.items()):
            return best
        best = choice
        fewer = [pair for pair in pairs if loss[pair] <= total]
        if total == 0 or (total > scale / ENOUGH and len(fewer) == len(pairs)):
            return best
        pairs, scale = fewer, total


def _solved(
    units: Sequence[Unit], pairs: Sequence[tuple[Unit, Candidate]], loss: Table, limits: Sequence[Limit], scale: float
) -> dict[Unit, Candidate] | None:
    losses = np.array([loss[pair] for pair in pairs]) / (scale or 1.0)
    index = {unit: n for n, unit in enumerate(units)}
    belongs = np.zeros((len(units), len(pairs)))
    belongs[[index[unit] for unit, _ in pairs], np.arange(len(pairs))] = 1.0
    constraints = [LinearConstraint(belongs, 1.0, 1.0)]
    for limit in limits:
        row, most = _scaled(np.array([limit.cost[pair] for pair in pairs]), limit.most)
        constraints.append(LinearConstraint(row[None], -np.inf, most))
    whole, options = np.ones(len(pairs)), {"mip_rel_gap": GAP}
    with silenced():  # HiGHS prints a line of debugging now and then, to the stdout of C
        answer = milp(losses, integrality=whole, bounds=Bounds(0, 1), constraints=constraints, options=options)
        ctypes.CDLL(None).fflush(None)
    if answer.x is None:
        return None
    return {unit: c for (unit, c), x in zip(pairs, answer.x, strict=True) if x > 0.5}


def _scaled(row: Float64Array, most: float) -> tuple[Float64Array, float]:
    """Return a constraint in units that solvers' tolerances are made for."""
    unit = max(float(np.abs(row).max()), 1e-300)
    return row / unit, most / unit
