"""GPTQ against a dense implementation of its paper, and the optimum that its corrected form rounds."""

from dataclasses import replace

import numpy as np
import pytest

from support.linear_operators import (
    VALID,
    Linear,
    as_matrices,
    conv,
    correlated,
    dense,
    depthwise,
    drifted,
    joined_patches,
    matmul,
    output_error,
    rounded,
    solved,
)
from tfq_fine.algorithms import WeightProblem, solution
from tfq_fine.algorithms.gptq import _columns
from tfq_fine.algorithms.least_squares import factored
from tfq_fine.numerics import CodeFormat
from tfq_fine.request import WeightSpec
from tfq_fine.request.granularity import Blocks, Granularity, PerChannel, PerTensor

RNG = np.random.default_rng(0)
WIDE = dense(150, 7, rows=40)  # more inputs than are brought up to date at once


def spread(problem: WeightProblem, blocks: np.ndarray) -> np.ndarray:
    """One value per block as one for every value of the weight, [groups, rows, K]."""
    for axis, (size, length) in enumerate(zip(problem.weight.shape, problem.block, strict=True)):
        blocks = np.repeat(blocks, length, axis).take(range(size), axis)
    return as_matrices(problem, blocks)


def on_quantized(problem: WeightProblem) -> WeightProblem:
    """The problem with the quantized inputs as the exact ones, which is all that GPTQ sees."""
    values = problem.inputs.values
    assert values is not None
    return replace(problem, inputs=replace(problem.inputs, values=replace(values, exact=values.quantized)))


def eliminated(
    target: np.ndarray,
    hessian: np.ndarray,
    scale: np.ndarray,
    zero_point: np.ndarray,
    form: CodeFormat,
    order: np.ndarray,
) -> np.ndarray:
    """Codes [rows, K] by optimal brain quantization in a given order: one explicit inverse, one column less each time.

    Args:
        target: the weight, [rows, K].
        hessian: damped, [K, K].
        scale: of every value, [rows, K].
        zero_point: of every value.
        form: the codes.
        order: the columns.
    """
    left, codes, inverse = target.copy(), np.zeros(target.shape), np.linalg.inv(hessian)
    for k in order:
        codes[:, k] = np.clip(np.round(left[:, k] / scale[:, k]) + zero_point[:, k], form.lowest, form.highest)
        stored = scale[:, k] * (codes[:, k] - zero_point[:, k])
        left -= np.outer((left[:, k] - stored) / inverse[k, k], inverse[k])
        inverse -= np.outer(inverse[:, k], inverse[k]) / inverse[k, k]
    return codes


CASES: dict[str, tuple[Linear, CodeFormat, Granularity]] = {
    "wide": (WIDE, CodeFormat(4), PerChannel()),
    "blocks": (WIDE, CodeFormat(3, full_range=True), Blocks(32)),
    "asymmetric": (WIDE, CodeFormat(4, symmetric=False), PerChannel()),
    "tensor": (dense(29, 7, rows=40), CodeFormat(4), PerTensor()),
    "half scales": (dense(29, 7, rows=40), CodeFormat(3, scales="float16", full_range=True), Blocks(8)),
    "grouped": (conv(5, 3, groups=4), CodeFormat(4), PerChannel()),
    "depthwise": (depthwise(5, 3), CodeFormat(4), PerChannel()),
    "matmul": (matmul(29, 7), CodeFormat(4), PerChannel()),
}


@pytest.mark.parametrize("act_order", [0, 1], ids=["in order", "act-order"])
@pytest.mark.parametrize("name", CASES)
def test_codes_are_those_of_a_dense_elimination(name: str, act_order: int):
    """Where it beats rounding, which is taken elsewhere; scales are chosen before, and are taken as they are."""
    linear, form, granularity = CASES[name]
    problem = linear.problem(linear.inputs(correlated(linear.data, 8)), form, granularity)
    codes = solved(problem, "gptq", damping=0.02, act_order=act_order)
    scale, zero_point = (spread(problem, array.astype(np.float64)) for array in (codes.scale, codes.zero_point))
    weight, result = as_matrices(problem, problem.weight).astype(np.float64), as_matrices(problem, codes.codes)
    gained = output_error(problem, codes.dequantize()) < output_error(problem, rounded(problem).dequantize())
    compared = 0
    for g, rows in enumerate(joined_patches(problem)[1]):
        hessian = rows.T @ rows / len(rows)
        hessian += 0.02 * np.diagonal(hessian).mean() * np.eye(len(hessian))
        order = np.argsort(-np.diagonal(hessian), kind="stable") if act_order else np.arange(len(hessian))
        expected = eliminated(weight[g], hessian, scale[g], zero_point[g], form, order)
        np.testing.assert_array_equal(result[g][gained[g]], expected[gained[g]])
        values = (scale[g] * (expected - zero_point[g]))[gained[g]]
        np.testing.assert_allclose(as_matrices(problem, codes.dequantize())[g][gained[g]], values, rtol=1e-6)
        compared += int(gained[g].sum())
    assert compared > 0.5 * gained.size


def test_lazy_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    problem = WIDE.problem(WIDE.inputs(correlated(WIDE.data, 8)), CodeFormat(4), PerChannel())
    lazy = solved(problem, "gptq")
    for size in (1, 7, 1000):
        monkeypatch.setattr("tfq_fine.algorithms.gptq.LAZY", size)
        np.testing.assert_array_equal(solved(problem, "gptq").codes, lazy.codes)


@pytest.mark.parametrize("name", ["wide", "blocks", "half scales", "asymmetric"])
def test_on_correlated_inputs_the_error_is_well_below_that_of_rounding(name: str):
    """Textbook GPTQ has 0.56 to 0.60 of it on mildly correlated inputs; without the elimination step it is above 1."""
    linear, form, granularity = CASES[name]
    problem = linear.problem(linear.inputs(correlated(linear.data, 8)), form, granularity)
    plain = output_error(problem, rounded(problem).dequantize()).sum()
    assert output_error(problem, solved(problem, "gptq").dequantize()).sum() <= 0.60 * plain


@pytest.mark.parametrize("linear", [dense(13, 7, rows=40), conv(3, 4), depthwise(5, 3), conv(3, 2, groups=5)])
def test_the_target_of_qronos_is_the_least_squares_optimum(linear: Linear):
    """With codes of 8 bits over a range that no value leaves, and without damping."""
    problem = linear.problem(linear.inputs(*drifted(linear)), CodeFormat(8), PerTensor())
    exact, quantized = joined_patches(problem)
    squares = factored(problem, problem.moments(), 0.0)
    assert squares.damping == 0
    for g in range(len(exact)):
        outputs = exact[g] @ squares.weight[g].T
        best = np.linalg.lstsq(quantized[g], outputs, rcond=None)[0].T
        np.testing.assert_allclose(squares.target[g], best, rtol=1e-4, atol=1e-4)  # second moments in float32


def test_fine_codes_of_qronos_are_the_optimum():
    """Steps of a hundredth, to which each value is rounded after all others made up for the errors before."""
    linear = dense(13, 7, rows=40)
    problem = linear.problem(linear.inputs(*drifted(linear)), CodeFormat(8), Blocks(1))
    exact, quantized = joined_patches(problem)
    best = np.linalg.lstsq(quantized[0], exact[0] @ problem.weight.T.astype(np.float64), rcond=None)[0].T
    codes = solved(problem, "qronos", damping=0.0)
    np.testing.assert_allclose(codes.dequantize(), best, atol=2 * codes.scale.max())
    least = output_error(problem, best.astype(np.float32)).sum()
    assert output_error(problem, codes.dequantize()).sum() <= 1.02 * least
    assert output_error(problem, problem.weight).sum() > 2 * least  # so that there was something to correct


@pytest.mark.parametrize("keeps_mean", [False, True])
@pytest.mark.parametrize("linear", [dense(13, 7, rows=40), conv(3, 4), depthwise(5, 3)])
def test_moments_give_the_error_on_the_patches_less_a_constant(linear: Linear, keeps_mean: bool):
    problem = linear.problem(linear.inputs(*drifted(linear)), CodeFormat(3), PerChannel(), keeps_mean=keeps_mean)
    weight = as_matrices(problem, problem.weight).astype(np.float64)
    constant = output_error(problem, problem.weight, keeps_mean)
    for name in ("qronos", "gptq"):
        stored = solved(problem, name).dequantize()
        by_moments = problem.moments().error(weight, as_matrices(problem, stored).astype(np.float64))
        expected = output_error(problem, stored, keeps_mean)
        np.testing.assert_allclose(by_moments + constant, expected, rtol=1e-4, atol=1e-5 * expected.max())


@pytest.mark.parametrize("linear", [dense(29, 7, rows=40), conv(3, 4), depthwise(5, 3, VALID)])
def test_qronos_corrects_what_earlier_operators_did_better_than_gptq(linear: Linear):
    """About the mean, which a bias keeps: a window of one channel could not make up for a shift."""
    problem = linear.problem(linear.inputs(*drifted(linear)), CodeFormat(6), PerChannel(), keeps_mean=True)
    corrected, plain = (
        output_error(problem, solved(problem, name).dequantize(), keeps_mean=True).sum() for name in ("qronos", "gptq")
    )
    assert corrected < 0.5 * plain


def test_gptq_sees_quantized_inputs_alone():
    linear = dense(29, 7, rows=40)
    problem = linear.problem(linear.inputs(*drifted(linear)), CodeFormat(4), PerChannel())
    codes, expected = solved(problem, "gptq"), solved(on_quantized(problem), "qronos")
    np.testing.assert_array_equal(codes.codes, expected.codes)
    assert not np.array_equal(codes.codes, solved(problem, "qronos").codes)


def test_gptq_sees_float_inputs_on_request():
    linear = dense(29, 7, rows=40)
    problem = linear.problem(linear.inputs(*drifted(linear)), CodeFormat(4), PerChannel())
    codes = solved(problem, "gptq", float_inputs=1)
    values = problem.inputs.values
    assert values is not None
    exact = replace(problem, inputs=replace(problem.inputs, values=replace(values, quantized=values.exact)))
    np.testing.assert_array_equal(codes.codes, solved(exact, "gptq").codes)
    assert not np.array_equal(codes.codes, solved(problem, "gptq").codes)


SINGULAR = {
    "zeros": np.zeros((40, 13)),
    "constant": np.full((40, 13), 3.7),
    "large constant": np.full((40, 13), -1e4) + RNG.normal(size=13),
    "dead inputs": RNG.normal(size=(40, 13)) * (np.arange(13) % 3 > 0),
    "equal inputs": np.repeat(RNG.normal(size=(40, 1)), 13, axis=1),
    "one live input": RNG.normal(size=(40, 13)) * (np.arange(13) == 5),
    "nearly constant": 1e3 + 1e-3 * RNG.normal(size=(40, 13)),
    "tiny": 1e-25 * RNG.normal(size=(40, 13)),
}


@pytest.mark.parametrize("damping", [0.0, 0.02])
@pytest.mark.parametrize("keeps_mean", [False, True])
@pytest.mark.parametrize("algorithm", ["gptq", "qronos", "comq", "balanced"])
@pytest.mark.parametrize("name", SINGULAR)
def test_a_singular_second_moment_is_damped_as_much_as_it_needs(
    name: str, algorithm: str, keeps_mean: bool, damping: float
):
    linear = dense(13, 7, rows=40)
    exact = [SINGULAR[name].astype(np.float32)] * 3
    inputs = linear.inputs(exact, [x * np.float32(0.99) for x in exact])
    problem = linear.problem(inputs, CodeFormat(4), PerChannel(), keeps_mean=keeps_mean)
    options = {} if algorithm == "balanced" else {"damping": damping}  # which has dampings of its own
    codes = solved(problem, algorithm, **options)
    assert np.isfinite(codes.dequantize()).all() and (codes.scale > 0).all()
    extent = np.abs(problem.weight).max(axis=1, keepdims=True)
    assert (np.abs(codes.dequantize()) <= 3 * extent).all()  # real weights, whatever no input can tell


def test_damping_is_raised_by_no_more_than_it_takes():
    linear = dense(13, 7, rows=40)
    inputs = linear.inputs([SINGULAR["equal inputs"].astype(np.float32)])
    problem = linear.problem(inputs, CodeFormat(4), PerChannel())
    assert 0 < factored(problem, problem.moments(), 0.0).damping <= 1e-4
    assert factored(problem, problem.moments(), 0.02).damping == 0.02


@pytest.mark.parametrize("name", ["gptq", "qronos", "comq"])
def test_raised_damping_is_said(name: str):
    linear = dense(13, 7, rows=40)
    inputs = linear.inputs([SINGULAR["equal inputs"].astype(np.float32)])
    problem = linear.problem(inputs, CodeFormat(4), PerChannel())
    said = solution(WeightSpec(4, algorithm=name, options=(("damping", 0.0),)), problem).how
    assert said.startswith(f"{name}, damped by ") and said.endswith(" in place of 0")
    assert solution(WeightSpec(4, algorithm=name), problem).how == name


def test_inputs_that_are_always_zero_are_rounded():
    """Nothing pulls on their weights: the codes are the nearest at the scale of their channel."""
    linear = dense(13, 7, rows=40)
    dead = np.arange(13) % 3 == 0
    exact = [x * ~dead for x in correlated(linear.data, 4)]
    problem = linear.problem(linear.inputs(exact), CodeFormat(4), PerChannel())
    codes = solved(problem, "gptq")
    expected = np.clip(np.rint(problem.weight / codes.scale), -7, 7)
    np.testing.assert_array_equal(codes.codes[:, dead], expected[:, dead])
    assert not np.array_equal(codes.codes, expected)


@pytest.mark.parametrize("rows", [1, 3])
def test_the_target_stays_as_it_is(rows):
    """A matrix of one row, as of a depthwise channel: its transposed view is contiguous, and would be no copy."""
    target, size = RNG.normal(size=(5, rows, 7)), (5, rows, 7)
    factor = np.triu(RNG.uniform(0.5, 1, size=(5, 7, 7)))
    before = target.copy()
    _columns(target, factor, np.full(size, 0.3), np.zeros(size), lambda w, s, z: np.rint(w / s) + z, None)
    np.testing.assert_array_equal(target, before)
