"""The matrices of a weight, and the patches that they are multiplied with, against the interpreter's convolutions."""

import numpy as np
import pytest

from support.linear_operators import OPERATORS, correlated
from tfq_converters import flatbuffer
from tfq_converters.runtime import Runner
from tfq_fine.algorithms import patches, to_matrices
from tfq_fine.algorithms.least_squares import damped, factored, from_matrices, inverse_factor
from tfq_fine.algorithms.moments import Moments
from tfq_fine.numerics import CodeFormat
from tfq_fine.request import PerChannel

RNG = np.random.default_rng(0)


def sizes(name: str) -> tuple[int, int]:
    """The number of groups and the number of values that an output value is computed from."""
    linear = OPERATORS[name]
    main = linear.graph.main
    groups, _, inputs = patches(np.zeros(linear.data, np.float32), main.ops[0], main).shape
    return groups, inputs


@pytest.mark.parametrize("name", OPERATORS)
def test_matrices_go_back_to_the_weight(name: str):
    linear = OPERATORS[name]
    matrices = to_matrices(linear.weight, linear.axes, *sizes(name))
    assert matrices.ndim == 3 and matrices.size == linear.weight.size
    np.testing.assert_array_equal(from_matrices(matrices, linear.axes, linear.weight.shape), linear.weight)


@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "transposed"])
def test_matrices_times_patches_are_the_outputs_of_the_kernel(name: str):
    """Sums of float32 values in another order."""
    linear = OPERATORS[name]
    data = RNG.normal(size=linear.data).astype(np.float32)
    expected = Runner(flatbuffer.write(linear.graph)).run([data])[0]
    main = linear.graph.main
    seen = patches(data, main.ops[0], main)
    result = to_matrices(linear.weight, linear.axes, *sizes(name)) @ seen.transpose(0, 2, 1)  # [groups, rows, patches]
    if name.startswith("matmuls"):  # every matrix meets all patches here, its own in the kernel
        batch, rows, outputs = expected.shape
        found = result.reshape(outputs, batch, batch, rows)[:, range(batch), range(batch)].transpose(1, 2, 0)
    else:
        found = result.reshape(-1, result.shape[2]).T.reshape(expected.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_every_input_value_meets_the_whole_window_of_a_transposed_convolution():
    """The kernel adds up what the matrices make of the channels of each pixel."""
    linear = OPERATORS["transposed"]
    outputs, *window, _ = linear.weight.shape
    data = RNG.normal(size=linear.data).astype(np.float32)
    expected = Runner(flatbuffer.write(linear.graph)).run([data])[0][0]
    main = linear.graph.main
    products = to_matrices(linear.weight, linear.axes, *sizes("transposed"))[0] @ patches(data, main.ops[0], main)[0].T
    pieces = products.reshape(outputs, *window, *linear.data[1:3])
    whole = np.zeros((outputs, 3 * 2 + 1, 5 * 2))  # a window of 3 x 2 at steps of 2
    for a, b in np.ndindex(*window):
        whole[:, a : a + 5 : 2, b : b + 9 : 2] += pieces[:, a, b]
    np.testing.assert_allclose(whole[:, :6].transpose(1, 2, 0), expected, rtol=1e-5, atol=1e-5)


def test_only_some_patches_are_drawn_the_same_ones_of_both_inputs():
    linear = OPERATORS["conv"]
    main, data = linear.graph.main, RNG.normal(size=linear.data).astype(np.float32)
    every, some = (patches(data, main.ops[0], main, at_most, 3) for at_most in (None, 10))
    other = patches(data + 1, main.ops[0], main, 10, 3)
    rows = {row.tobytes() for row in every[0]}
    assert some.shape == (1, 10, every.shape[2]) and all(row.tobytes() in rows for row in some[0])
    inner = (some != 0) & (other != 1)  # the border is padded with zeros, which do not move
    np.testing.assert_allclose(other[inner], some[inner] + 1, atol=1e-6)


@pytest.mark.parametrize("groups", [1, 3])
def test_the_factor_is_that_of_the_inverse(groups: int):
    rows = RNG.normal(size=(groups, 40, 7))
    hessian = rows.transpose(0, 2, 1) @ rows
    factor = inverse_factor(hessian)
    np.testing.assert_array_equal(factor, np.triu(factor))
    np.testing.assert_allclose(factor.transpose(0, 2, 1) @ factor, np.linalg.inv(hessian), rtol=1e-9, atol=1e-12)


def test_damping_is_a_share_of_the_mean_diagonal_of_each_group():
    hessian = np.array([[[1.0, 0.5], [0.5, 3.0]], [[0.0, 0.0], [0.0, 0.0]]])
    np.testing.assert_allclose(
        damped(hessian, 0.1), [[[1.2, 0.5], [0.5, 3.2]], [[1.0, 0.0], [0.0, 1.0]]], rtol=0, atol=1e-15
    )


def test_importance_is_the_second_moment_of_the_input_that_a_value_meets():
    """Of a depthwise convolution with a multiplier, whose groups are channels of the input."""
    linear = OPERATORS["depthwise_multiplied"]
    problem = linear.problem(linear.inputs(correlated(linear.data, 4)), CodeFormat(4), PerChannel())
    squares = factored(problem, problem.moments(), 0.0)
    moments: Moments = problem.moments()
    for c in range(15):
        for a, b in np.ndindex(3, 2):
            place = a * 2 + b
            assert squares.importance[0, a, b, c] == pytest.approx(moments.hessian[c // 3, place, place], rel=1e-6)
