"""SQuant: errors of kernels and of channels add up to less than half a step; each code is one of the two next ones."""

import itertools

import numpy as np
import pytest

from tfq_converters.operators import WeightAxes
from tfq_fine.algorithms import WeightProblem
from tfq_fine.algorithms.mse_clip import clipped
from tfq_fine.algorithms.squant import with_balanced_errors
from tfq_fine.numerics import affine
from tfq_fine.numerics.affine import CodeFormat


def _convolution(seed: int = 0) -> np.ndarray:
    """Return a weight of 7 channels, 11 inputs, and a window of 3 x 5."""
    return np.random.default_rng(seed).normal(0.3, 1, (7, 3, 5, 11)).astype(np.float32)


@pytest.mark.parametrize("bits", [3, 4])
def test_errors_of_each_channel_add_up_to_less_than_half_a_step(bits: int) -> None:
    weight = _convolution()
    problem = WeightProblem(weight, (1, 3, 5, 11), CodeFormat(bits), WeightAxes(1, 0, 3))
    before = clipped(problem)
    after = with_balanced_errors(problem, before)
    errors = (after.dequantize() - weight).astype(np.float64)
    half = before.scale.reshape(7) / 2 * 1.001  # float32 arithmetic
    assert (np.abs(errors.sum(axis=(1, 2, 3))) <= half).all()
    kernels = np.abs(errors.sum(axis=(1, 2)))
    assert (kernels <= 3 * half[:, None]).all()  # half a step, and a step more where the channel asked for a flip
    assert np.mean(kernels <= half[:, None]) > 0.6
    assert (np.abs((before.dequantize() - weight).sum(axis=(1, 2, 3))) > half).any()  # so something was to be done
    assert np.abs(after.codes - before.codes).max() == 1
    assert after.codes.min() >= problem.codes.lowest and after.codes.max() <= problem.codes.highest
    np.testing.assert_array_equal(after.scale, before.scale)


def test_flips_are_the_cheapest_of_all_choices() -> None:
    """One channel of seven values: of all subsets of one-step moves, none has as small a sum for less squared error."""
    weight = np.random.default_rng(5).uniform(-1, 1, (1, 7)).astype(np.float32)
    form = CodeFormat(4)
    problem = WeightProblem(weight, (1, 7), form, WeightAxes(1, 0, 1))
    scale, zero_point = affine.weight_scale(np.full((1, 1), -1.0), np.full((1, 1), 1.0), form)
    before = affine.encode(weight, (1, 7), scale, zero_point, form)
    after = with_balanced_errors(problem, before)
    step, rest = float(scale[0, 0]), (before.dequantize() - weight)[0].astype(np.float64)
    choices = [rest + step * np.array(moves) for moves in itertools.product((-1, 0, 1), repeat=7)]
    small = [choice for choice in choices if abs(choice.sum()) <= step / 2]
    least = min(float(np.square(choice).sum()) for choice in small)
    found = (after.dequantize() - weight)[0].astype(np.float64)
    np.testing.assert_allclose(np.square(found).sum(), least, rtol=1e-5)  # float32 arithmetic


def test_blocks_and_negative_scales() -> None:
    weight = np.random.default_rng(1).normal(0.2, 1, (5, 77)).astype(np.float32)
    form = CodeFormat(2, scales="float16", full_range=True)
    problem = WeightProblem(weight, (1, 32), form, WeightAxes(1, 0, 1))
    before = clipped(problem)
    assert (before.scale < 0).any()
    after = with_balanced_errors(problem, before)
    sums = [np.abs((codes.dequantize() - weight).sum(axis=1)) for codes in (before, after)]
    assert (sums[1] <= np.abs(before.scale).max(axis=1) / 2 * 1.001).all()
    assert sums[0].max() > 2 * sums[1].max()


def test_rows_of_a_table_are_not_added_up() -> None:
    weight = np.random.default_rng(2).normal(0.2, 1, (5, 13)).astype(np.float32)
    problem = WeightProblem(weight, (1, 13), CodeFormat(4), WeightAxes(0, 0, 1))
    before = clipped(problem)
    np.testing.assert_array_equal(with_balanced_errors(problem, before).codes, before.codes)
