"""Moments of patches against direct sums in float64, whatever the inputs' means and however they are cut up."""

import numpy as np
import pytest

from support.linear_operators import as_matrices, conv, correlated, dense, depthwise, drifted, solved
from tfq_fine.algorithms import moments as moments_module
from tfq_fine.algorithms.moments import Moments, moments_of
from tfq_fine.numerics import CodeFormat
from tfq_fine.request.granularity import PerChannel

RNG = np.random.default_rng(0)


def pairs(mean: float, deviation: float, groups: int = 2, inputs: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    """Patches (exact, quantized) of several samples, of different numbers."""
    found = []
    for count in (31, 7, 50):
        exact = mean + deviation * RNG.normal(size=(groups, count, inputs))
        found.append((exact.astype(np.float32), (0.9 * exact + 0.1).astype(np.float32)))
    return found


def direct(given: list[tuple[np.ndarray, np.ndarray]], centred: bool) -> Moments:
    exact, quantized = (np.concatenate(each, axis=1).astype(np.float64) for each in zip(*given, strict=True))
    means = exact.mean(axis=1), quantized.mean(axis=1)
    if centred:
        exact, quantized = exact - means[0][:, None], quantized - means[1][:, None]
    count = exact.shape[1]
    turned = quantized.transpose(0, 2, 1)
    cross = (exact - quantized).transpose(0, 2, 1) @ quantized / count
    return Moments(turned @ quantized / count, cross, *means, count)


@pytest.mark.parametrize("at_once", [1, 600, 2**22], ids=["one by one", "two at a time", "together"])
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("mean", [0.0, 3.0, 1e3])
def test_moments_are_direct_sums(mean: float, centred: bool, at_once: int, monkeypatch: pytest.MonkeyPatch):
    """Relative to the size of what is summed up; about the mean to the variance, though the mean is 2,000 times it."""
    monkeypatch.setattr(moments_module, "AT_ONCE", at_once)
    given = pairs(mean, 0.5)
    found, expected = moments_of(given), direct(given, centred)
    found = found.centred if centred else found
    for name in ("hessian", "cross", "exact_mean", "quantized_mean"):
        value = getattr(expected, name)
        np.testing.assert_allclose(getattr(found, name), value, atol=1e-5 * max(np.abs(value).max(), 1.0), err_msg=name)
    assert found.count == 88


def test_inputs_that_do_not_vary_have_no_variance():
    """Not the errors of rounding, which would have no factor."""
    given = pairs(1e4, 1.0)
    for exact, quantized in given:
        exact[..., 2] = quantized[..., 2] = 3333.3
    moments = moments_of(given).centred
    assert (moments.hessian[:, 2] == 0).all() and (moments.hessian[:, :, 2] == 0).all()
    assert (moments.cross[:, :, 2] == 0).all()
    assert (np.linalg.eigvalsh(np.delete(np.delete(moments.hessian, 2, 1), 2, 2)) > 0.1).all()


def test_without_errors_before_there_is_nothing_to_correct():
    given = [(exact, exact) for exact, _ in pairs(3.0, 1.0)]
    assert not moments_of(given).cross.any()
    shifted = moments_of(pairs(3.0, 1.0)).on_float_inputs
    assert not shifted.cross.any() and not (shifted.exact_mean - shifted.quantized_mean).any()


def test_samples_kept_apart_are_in_no_moments_that_weights_are_fitted_to():
    linear = conv(3, 4)
    exact, quantized = drifted(linear, 6)
    whole, fitted = linear.inputs(exact, quantized, apart=2), linear.inputs(exact[:4], quantized[:4])
    for name in ("hessian", "cross", "exact_mean", "quantized_mean"):
        np.testing.assert_array_equal(getattr(whole.moments, name), getattr(fitted.moments, name))
    last = moments_of(whole.patches(4))
    np.testing.assert_array_equal(whole.moments_apart.hessian, last.hessian)
    assert fitted.moments_apart is fitted.moments  # of the same ones where there are no others


@pytest.mark.parametrize("algorithm", ["gptq", "qronos", "comq"])
@pytest.mark.parametrize("linear", [dense(13, 7, rows=40), conv(3, 4), depthwise(5, 3)])
def test_poisoned_samples_apart_change_no_fitted_codes(linear, algorithm: str):  # type: ignore[no-untyped-def]
    exact, quantized = drifted(linear, 6)
    problem = linear.problem(linear.inputs(exact, quantized, apart=2), CodeFormat(4), PerChannel())
    poison = [1e3 * x[..., ::-1] for x in correlated(linear.data, 2, seed=7)]
    poisoned = linear.problem(
        linear.inputs([*exact[:4], *poison], [*quantized[:4], *(-x for x in poison)], apart=2),
        CodeFormat(4),
        PerChannel(),
    )
    np.testing.assert_array_equal(solved(poisoned, algorithm).codes, solved(problem, algorithm).codes)
    np.testing.assert_array_equal(solved(poisoned, algorithm).scale, solved(problem, algorithm).scale)


def test_many_patches_are_drawn_from_all_samples():
    linear = conv(1, 4, window=(1, 1))
    inputs = linear.inputs(correlated(linear.data, 4))
    assert [exact.shape for exact, _ in inputs.patches(most=40)] == [(1, 10, 1)] * 4
    assert inputs.moments.count == 4 * 7 * 9  # all of so few
    problem = linear.problem(inputs, CodeFormat(4), PerChannel())
    assert as_matrices(problem, problem.weight).shape == (1, 4, 1)
