"""OCTAV against equation 6 of its paper, written down once more for one block at a time."""

import numpy as np
import pytest

from support.linear_operators import solved
from tfq_fine.algorithms import ALGORITHMS, WeightProblem
from tfq_fine.numerics import CodeFormat

RNG = np.random.default_rng(0)


def clipped_at(values: np.ndarray, bits: int, steps: int = 200) -> float:
    """s <- sum |w| [|w| > s] / (4^-B / 3 sum [0 < |w| <= s] + sum [|w| > s]), from the mean of |w| that is not 0."""
    sizes = [abs(float(v)) for v in values.ravel() if v != 0]
    s = sum(sizes) / len(sizes)
    for _ in range(steps):
        beyond = [size for size in sizes if size > s]
        s = sum(beyond) / (4.0**-bits / 3 * (len(sizes) - len(beyond)) + len(beyond))
    return s


def stored(values: np.ndarray, scale: float, bits: int) -> np.ndarray:
    top = 2 ** (bits - 1) - 1
    return np.clip(np.round(values / scale), -top, top) * scale


def test_a_literal_example():
    """Eight values of 1 and one of 10 at 2 bits: s = 10 / (8 / 48 + 1), where the next step stays."""
    weight = np.array([[1.0, -1, 1, 1, -1, 1, 1, -1, 10]], np.float32)
    assert clipped_at(weight, 2) == pytest.approx(10 / (8 / 48 + 1))
    codes = solved(WeightProblem(weight, (1, 9), CodeFormat(2)), "octav")
    np.testing.assert_allclose(codes.scale, [[10.0]])  # the whole range has no clipping error, and the same rounding's
    np.testing.assert_array_equal(codes.codes, [[0, 0, 0, 0, 0, 0, 0, 0, 1]])


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_ranges_are_those_of_the_equation_where_they_have_less_error(bits: int):
    weight = RNG.laplace(size=(9, 501)).astype(np.float32)
    weight[3] = RNG.uniform(-1, 1, 501)  # gains nothing from clipping at many bits
    codes = solved(WeightProblem(weight, (1, 501), CodeFormat(bits)), "octav")
    clipped = 0
    for row, scale in zip(weight.astype(np.float64), codes.scale[:, 0], strict=True):
        top = 2 ** (bits - 1) - 1
        choices = [np.abs(row).max() / top, clipped_at(row, bits) / top]
        errors = [np.square(stored(row, choice, bits) - row).sum() for choice in choices]
        best = int(np.argmin(errors))
        assert scale == pytest.approx(choices[best], rel=1e-5)
        clipped += best
    assert clipped >= 8


def test_an_asymmetric_block_is_clipped_by_the_same_share_at_both_ends():
    weight = np.abs(RNG.laplace(size=(5, 301))).astype(np.float32)
    weight[:, 0] = -0.25
    codes = solved(WeightProblem(weight, (1, 301), CodeFormat(3, symmetric=False)), "octav")
    for row, scale in zip(weight.astype(np.float64), codes.scale[:, 0], strict=True):
        share = min(clipped_at(row, 3) / row.max(), 1)
        assert share < 0.9
        assert scale == pytest.approx(share * (row.max() + 0.25) / 7, rel=1e-5)


def test_zeros_and_short_blocks():
    """Padding of a short block counts for nothing, and a block of zeros keeps a scale."""
    weight = RNG.laplace(size=(3, 70)).astype(np.float32)
    weight[:, 32:64] = 0
    codes = solved(WeightProblem(weight, (1, 32), CodeFormat(4)), "octav")
    assert codes.scale.shape == (3, 3) and (codes.scale > 0).all()
    assert (codes.dequantize()[:, 32:64] == 0).all()
    alone = solved(WeightProblem(weight[:, 64:], (1, 6), CodeFormat(4)), "octav")
    np.testing.assert_array_equal(codes.scale[:, 2], alone.scale[:, 0])


def test_it_reads_no_data():
    assert not ALGORITHMS["octav"].reads and ALGORITHMS["octav"].scope == "weight"
