"""The choice of candidates against all choices that there are."""

import itertools

import numpy as np
import pytest

from tfq_fine.mixed_precision.choice import Limit, best_choice
from tfq_fine.mixed_precision.units import Candidate, Unit

UNITS = [Unit(f"layer_{n}", "CONV_2D", ((0, n),)) for n in range(5)]
NOISY = 0  # seed
CANDIDATES = [Candidate(f"candidate_{n}", None) for n in range(4)]


@pytest.mark.parametrize("seed", range(20))
def test_no_other_choice_within_the_limits_loses_less(seed: int):
    """Losses of layers lie nine orders of magnitude apart, as those of 16 and of 2 bits do."""
    rng = np.random.default_rng(seed)
    pairs = list(itertools.product(UNITS, CANDIDATES))
    loss = {pair: float(10 ** rng.uniform(-9, 0)) for pair in pairs}
    sizes = {pair: float(rng.integers(-1000, 10**5)) for pair in pairs}
    times = {pair: float(rng.uniform(1e-6, 1e-3)) for pair in pairs}
    limits = [
        Limit(cost, rng.uniform(0.2, 1.0) * sum(np.median([cost[unit, c] for c in CANDIDATES]) for unit in UNITS))
        for cost in (sizes, times)
    ]
    least = None
    for combination in itertools.product(CANDIDATES, repeat=len(UNITS)):
        choice = list(zip(UNITS, combination, strict=True))
        if all(sum(limit.cost[pair] for pair in choice) <= limit.most for limit in limits):
            total = sum(loss[pair] for pair in choice)
            least = total if least is None else min(least, total)
    found = best_choice(UNITS, loss, limits)
    if least is None:
        assert found is None
    else:
        assert found is not None
        assert all(sum(limit.cost[pair] for pair in found.items()) <= limit.most * (1 + 1e-6) for limit in limits)
        assert sum(loss[pair] for pair in found.items()) <= least * 1.001


def test_the_solver_prints_nothing(capfd: pytest.CaptureFixture[str]):
    """On this problem HiGHS prints a line of debugging."""
    rng = np.random.default_rng(NOISY)
    units = [Unit(str(n), "CONV_2D", ((0, n),)) for n in range(int(rng.integers(8, 60)))]
    sizes, sensitivity = 10 ** rng.uniform(2, 5.5, len(units)), 10 ** rng.uniform(-2, 0, len(units))
    shares, errors = (4, 2, 1, 0.6, 0.5, 0.35, 0.25), (0, 1e-6, 3e-5, 5e-3, 1e-2, 0.1, 0.2)
    candidates = [Candidate(str(k), None) for k in range(7)]
    pairs = [(n, k) for n in range(len(units)) for k in range(7)]
    loss = {(units[n], candidates[k]): float(sensitivity[n] * errors[k] * rng.uniform(0.7, 1.4)) for n, k in pairs}
    cost = {(units[n], candidates[k]): float(round(sizes[n] * (shares[k] - 1))) for n, k in pairs}
    best_choice(units, loss, [Limit(cost, float(sizes.sum() * (rng.uniform(0.3, 2) - 1)))])
    assert capfd.readouterr() == ("", "")


def test_without_limits_each_layer_gets_what_loses_least():
    loss = {(unit, c): float(abs(n - k)) for n, unit in enumerate(UNITS) for k, c in enumerate(CANDIDATES)}
    found = best_choice(UNITS[:4], loss, [])
    assert found == dict(zip(UNITS[:4], CANDIDATES, strict=True))
