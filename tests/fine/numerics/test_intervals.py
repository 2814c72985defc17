"""Confidence intervals against scipy's, and against many draws of samples whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from tfq_fine.numerics import paired_interval, share_interval


@pytest.mark.parametrize(("right", "count"), [(0, 7), (3, 11), (95, 100), (100, 100), (7123, 10000)])
def test_intervals_of_shares_are_scipys(right, count):
    expected = stats.binomtest(right, count).proportion_ci(0.95, method="wilson")
    assert share_interval(right / count, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_intervals_of_pairs_hold_the_truth_as_often_as_they_say():
    random = np.random.default_rng(3)
    truth = 0.02 - 0.01  # 2 % of the samples are lost, 1 % won
    draws = random.choice([1.0, -1.0, 0.0], p=[0.02, 0.01, 0.97], size=(2000, 1500))
    held = [low <= truth <= high for low, high in map(paired_interval, draws)]
    assert 0.935 < np.mean(held) < 0.965  # 2000 draws: two standard deviations are 1 %


def test_where_nothing_differs_the_interval_says_what_cannot_be_seen():
    assert paired_interval(np.zeros(300), 1.0) == (-0.01, 0.01)
    assert paired_interval(np.zeros(300)) == (0, 0)
    assert paired_interval(np.array([0.25])) == (0.25, 0.25)
