"""Half-quadratic quantization: no worse than clipping by its own norm, and better where outliers pull."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.linear_operators import solved
from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms import ALGORITHMS, WeightProblem
from tfq_fine.numerics import CodeFormat, affine

RNG = np.random.default_rng(0)


def error(weight: np.ndarray, codes: WeightCodes, norm: float) -> np.ndarray:
    """The sum of |error|^norm in every block."""
    blocks = affine.split(np.abs(weight - codes.dequantize()).astype(np.float64) ** norm, codes.block)
    return np.asarray(blocks.sum(axis=tuple(range(1, blocks.ndim, 2))))


@settings(max_examples=50)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 37)),
    length=st.integers(1, 16),
    bits=st.integers(2, 8),
    symmetric=st.booleans(),
    norm=st.sampled_from([0.3, 0.7, 1.0, 2.0]),
    seed=st.integers(0, 99),
)
def test_no_block_is_worse_than_that_of_clipping_by_its_norm(
    shape: tuple[int, int], length: int, bits: int, symmetric: bool, norm: float, seed: int
):
    weight = np.random.default_rng(seed).laplace(size=shape).astype(np.float32)
    problem = WeightProblem(weight, (1, min(length, shape[1])), CodeFormat(bits, symmetric))
    found = error(weight, solved(problem, "hqq", norm=norm), norm)
    assert (found <= error(weight, solved(problem, "mse_clip"), norm) * (1 + 1e-6) + 1e-9).all()


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_outliers_pull_less(symmetric: bool):
    """Most blocks gain by the norm that is asked for."""
    weight = RNG.laplace(size=(40, 64)).astype(np.float32)
    problem = WeightProblem(weight, (1, 64), CodeFormat(3, symmetric))
    codes, clipped = solved(problem, "hqq"), solved(problem, "mse_clip")
    found, before = error(weight, codes, 0.7), error(weight, clipped, 0.7)
    assert (found < before).mean() > 0.6 and found.sum() < 0.99 * before.sum()


def test_the_scale_of_weights_changes_nothing_but_the_scales():
    """The threshold is relative to the weights: powers of two are exact."""
    weight = RNG.laplace(size=(5, 33)).astype(np.float32)
    one, other = (solved(WeightProblem(w, (1, 33), CodeFormat(3)), "hqq") for w in (weight, weight * 2.0**-6))
    np.testing.assert_array_equal(one.codes, other.codes)
    np.testing.assert_array_equal(one.scale * 2.0**-6, other.scale)


def test_it_reads_no_data():
    assert not ALGORITHMS["hqq"].reads and ALGORITHMS["hqq"].scope == "weight"
