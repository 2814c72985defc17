"""Clipped ranges against a search of every range, value by value."""

import numpy as np
import pytest

from support.linear_operators import OPERATORS, as_matrices, correlated, dense, rounded, solved
from tfq_fine.algorithms import WeightProblem
from tfq_fine.numerics import CodeFormat
from tfq_fine.request.granularity import Blocks, Granularity, PerChannel

SHARES = np.linspace(1.0, 0.3, 36)


def brute_force(problem: WeightProblem, importance: np.ndarray) -> np.ndarray:
    """The least weighted error of each block, [rows, blocks of K], over every share of its extent, one at a time.

    Args:
        problem: symmetric codes in blocks of one row each.
        importance: [K], how much the square of an error counts.
    """
    top, rows, length = problem.codes.highest, problem.weight.astype(np.float64), problem.block[1]
    least = np.full(problem.grid, np.inf)
    for o in range(rows.shape[0]):
        for b in range(problem.grid[1]):
            part = slice(b * length, (b + 1) * length)
            for share in SHARES:
                scale = np.float32(np.abs(rows[o, part]).max() * share / top)
                errors = [
                    weight * (min(max(round(float(v) / scale), -top), top) * float(scale) - v) ** 2
                    for v, weight in zip(rows[o, part], importance[part], strict=True)
                ]
                least[o, b] = min(least[o, b], sum(errors))
    return least


def error_of_blocks(problem: WeightProblem, stored: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """The weighted error of each block of a dense weight."""
    error = importance * np.square(stored.astype(np.float64) - problem.weight)
    edges = np.arange(0, error.shape[1], problem.block[1])
    return np.asarray(np.add.reduceat(error, edges, axis=1))


@pytest.mark.parametrize("granularity", [PerChannel(), Blocks(4)])
@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("name", ["mse_clip", "mse_clip_weighted"])
def test_no_range_of_the_grid_has_less_error(name: str, bits: int, granularity: Granularity):
    linear = dense(13, 5, rows=40)
    inputs = [x * np.linspace(0.1, 3.0, 13, dtype=np.float32) ** 2 for x in correlated(linear.data, 3)]
    problem = linear.problem(linear.inputs(inputs), CodeFormat(bits), granularity)
    squares = np.square(np.concatenate(inputs).astype(np.float64)).mean(axis=0)
    importance = squares if name == "mse_clip_weighted" else np.ones(13)
    error = error_of_blocks(problem, solved(problem, name).dequantize(), importance)
    np.testing.assert_allclose(error, brute_force(problem, importance), rtol=1e-4, atol=1e-9)  # float32 against float64
    other = solved(problem, "mse_clip" if name == "mse_clip_weighted" else "mse_clip_weighted")
    assert (error <= error_of_blocks(problem, other.dequantize(), importance) * (1 + 1e-4)).all()


@pytest.mark.parametrize("name", OPERATORS)
def test_weighted_ranges_lower_the_error_on_inputs_that_do_not_go_together(name: str):
    """Each value counts by the square of the input that it meets, whatever the axes of the operator."""
    linear = OPERATORS[name]
    rng = np.random.default_rng(1)
    sizes = np.exp(1.5 * rng.normal(size=linear.data))[0]
    inputs = [(rng.normal(size=linear.data) * sizes).astype(np.float32) for _ in range(6)]
    problem = linear.problem(linear.inputs(inputs), CodeFormat(3), PerChannel())
    moment = problem.inputs.second_moment
    assert moment is not None
    importance = np.diagonal(moment, axis1=1, axis2=2)[:, None, :]

    def weighted(codes) -> float:
        error = as_matrices(problem, codes.dequantize()).astype(np.float64) - as_matrices(problem, problem.weight)
        return float((importance * error**2).sum())

    assert weighted(solved(problem, "mse_clip_weighted")) < weighted(solved(problem, "mse_clip"))
    assert weighted(solved(problem, "mse_clip_weighted")) <= weighted(rounded(problem)) * (1 + 1e-6)
