"""Coordinate descent: it goes down, and where it ends no single code and no single scale can be better."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from support.linear_operators import Linear, conv, correlated, dense, depthwise, drifted, matmul, solved
from tfq_fine.algorithms.comq import descended
from tfq_fine.algorithms.gptq import compensated
from tfq_fine.algorithms.least_squares import LeastSquares, Rounded, nearest
from tfq_fine.numerics import CodeFormat
from tfq_fine.request.granularity import Blocks, ChannelGroups, Granularity, PerChannel, PerTensor

CASES: dict[str, tuple[Linear, CodeFormat, Granularity]] = {
    "channels": (dense(13, 7, rows=40), CodeFormat(3), PerChannel()),
    "tensor": (dense(13, 7, rows=40), CodeFormat(4), PerTensor()),
    "blocks": (dense(29, 5, rows=40), CodeFormat(2, full_range=True), Blocks(8)),
    "half scales": (dense(29, 5, rows=40), CodeFormat(2, scales="float16", full_range=True), Blocks(8)),
    "asymmetric": (dense(13, 7, rows=40), CodeFormat(3, symmetric=False), PerChannel()),
    "grouped": (conv(3, 2, groups=5), CodeFormat(3), ChannelGroups(3)),
    "depthwise": (depthwise(5, 3), CodeFormat(2), PerChannel()),
    "matmul": (matmul(13, 7), CodeFormat(3), PerChannel()),
}


def start(name: str, drift: bool = True) -> tuple[LeastSquares, Rounded]:
    linear, form, granularity = CASES[name]
    inputs = linear.inputs(*drifted(linear)) if drift else linear.inputs(correlated(linear.data, 8))
    problem = replace(linear.problem(inputs, form, granularity), options={"damping": 0.02, "act_order": 0, "sweeps": 3})
    return compensated(problem, problem.moments())


def outputs(squares: LeastSquares) -> list[np.ndarray]:
    """R of every group, with R^T R its damped second moment: the error is |R (V - T)^T|^2."""
    return [np.linalg.cholesky(hessian).T for hessian in squares.hessian]


def objective(squares: LeastSquares, values: np.ndarray) -> float:
    """The damped error about the optimum, by products with a factor of the second moment."""
    return sum(
        float(np.square(factor @ (v - t).T).sum())
        for factor, v, t in zip(outputs(squares), values, squares.target, strict=True)
    )


@pytest.mark.parametrize("name", CASES)
def test_no_sweep_goes_up(name: str):
    """From the codes of `qronos`, from rounding, and from codes at random."""
    squares, rounded = start(name)
    form = squares.problem.codes
    codes = np.random.default_rng(0).integers(form.lowest, form.highest + 1, rounded.codes.shape).astype(np.float64)
    for first in (rounded, nearest(squares), replace(rounded, codes=codes)):
        errors = [objective(squares, squares.values(descended(squares, first, sweeps))) for sweeps in range(5)]
        errors.insert(0, objective(squares, squares.values(first)))
        assert all(after <= before * (1 + 1e-9) for before, after in pairwise(errors)), errors
    assert errors[-1] < 0.8 * errors[0]  # of random codes


@pytest.mark.parametrize("name", CASES)
def test_where_it_ends_no_other_code_of_one_value_is_better(name: str):
    """Every code of every value is tried."""
    squares, rounded = start(name)
    ended = descended(squares, rounded, 60)
    form, values = squares.problem.codes, squares.values(ended)
    scale, zero_point = ended.scale[squares.places], ended.zero_point[squares.places]
    for factor, v, t, s, z in zip(outputs(squares), values, squares.target, scale, zero_point, strict=True):
        residual = factor @ (v - t).T  # [K, rows]
        least = np.square(residual).sum(axis=0)
        for k in range(v.shape[1]):
            for code in range(form.lowest, form.highest + 1):
                moved = s[:, k] * (code - z[:, k]) - v[:, k]
                error = np.square(residual + np.outer(factor[:, k], moved)).sum(axis=0)
                assert (error >= least * (1 - 1e-9) - 1e-12).all()


@pytest.mark.parametrize("name", ["channels", "blocks", "asymmetric", "grouped", "depthwise", "matmul", "tensor"])
def test_where_it_ends_every_scale_is_that_of_least_squares(name: str):
    """The error is a parabola over one scale, whose lowest point is <R u, R T - the other blocks> / |R u|^2."""
    squares, rounded = start(name)
    ended = descended(squares, rounded, 60)
    values, units = squares.values(ended), ended.codes - ended.zero_point[squares.places]
    compared = 0
    for block in range(len(ended.scale)):
        own = squares.places == block
        along, apart = 0.0, 0.0
        for factor, v, t, u, mine in zip(outputs(squares), values, squares.target, units, own, strict=True):
            step, rest = factor @ np.where(mine, u, 0).T, factor @ (t - np.where(mine, 0, v)).T
            along, apart = along + float((step * rest).sum()), apart + float((step * step).sum())
        if apart > 0:
            assert ended.scale[block] == pytest.approx(along / apart, rel=1e-6), block
            compared += 1
    assert compared > 0.6 * len(ended.scale)


def test_half_precision_scales_are_the_nearest_that_do_not_go_up():
    """The neighbours in float16 of each scale are no better than it."""
    squares, rounded = start("half scales")
    ended = descended(squares, rounded, 60)
    least = objective(squares, squares.values(ended))
    assert (ended.scale < 0).any()  # the most negative code is at the other end
    for block in range(len(ended.scale)):
        held = np.float16(ended.scale[block])
        assert held == ended.scale[block]
        for neighbour in (np.nextafter(held, np.float16(np.inf)), np.nextafter(held, np.float16(-np.inf))):
            scale = ended.scale.copy()
            scale[block] = neighbour
            assert objective(squares, squares.values(replace(ended, scale=scale))) >= least * (1 - 1e-9)


def test_scales_stay_above_their_floor():
    linear = dense(13, 7, rows=40)
    inputs = linear.inputs(*drifted(linear))
    free = solved(linear.problem(inputs, CodeFormat(4), PerChannel()), "comq").scale.reshape(-1)
    floor = np.where(np.arange(7) % 2, 1.5, 0.5) * free
    codes = solved(linear.problem(inputs, CodeFormat(4), PerChannel(), floor), "comq")
    found = codes.scale.reshape(-1)
    assert (found >= floor.astype(np.float32)).all()
    np.testing.assert_allclose(found[1::2], floor[1::2], rtol=0.3)  # as low as they may be, or a little above
    np.testing.assert_array_equal(found[::2], free[::2])


def test_it_gains_on_what_it_starts_from():
    for name in ("channels", "blocks"):
        squares, rounded = start(name)
        ended = descended(squares, rounded, 3)
        before, after = (objective(squares, squares.values(each)) for each in (rounded, ended))
        assert after < 0.9 * before, name


def test_lazy_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    squares, rounded = start("channels")
    ended = descended(squares, rounded, 3)
    for size in (1, 5):  # of 13 columns
        monkeypatch.setattr("tfq_fine.algorithms.comq.LAZY", size)
        np.testing.assert_array_equal(descended(squares, rounded, 3).codes, ended.codes)
