"""The choice by samples kept apart, and what the fitted weights of a whole file are worth."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import tfq_fine as tfq
from examples import digits
from support.linear_operators import as_matrices, correlated, dense, output_error, solved
from tfq_converters.runtime import Runner
from tfq_fine.numerics import CodeFormat
from tfq_fine.request.granularity import PerChannel

CALIBRATION, NEW = 100, 200  # images


def orthogonal(inputs: list[np.ndarray], seed: int = 3) -> list[np.ndarray]:
    """Inputs that have nothing in common with others: what these never show."""
    rows = np.concatenate(inputs)
    _, sizes, directions = np.linalg.svd(rows, full_matrices=True)
    unseen = directions[len(sizes[sizes > 1e-3 * sizes[0]]) :]
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(len(x), len(unseen))) @ unseen).astype(np.float32) for x in inputs]


@pytest.mark.parametrize("algorithm", ["balanced", "best"])
def test_samples_apart_choose(algorithm: str):
    """Weights fitted to few directions lose in all others: there the weights that nothing is fitted to are taken."""
    linear = dense(31, 7, rows=5)
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(3, 31))
    *fitted, last = [(rng.normal(size=(5, 3)) @ mixing).astype(np.float32) for _ in range(5)]
    chosen = {}
    for name, apart in {"like": last, "unlike": orthogonal(fitted)[0]}.items():
        inputs = linear.inputs([*fitted, apart], apart=1)
        problem = linear.problem(inputs, CodeFormat(3), PerChannel())
        chosen[name] = solved(problem, algorithm)
        alone = linear.problem(linear.inputs([apart]), CodeFormat(3), PerChannel())
        errors = {
            each: output_error(alone, solved(problem, each).dequantize()).sum()
            for each in ("mse_clip", "round_to_nearest", "comq")
        }
        found = output_error(alone, chosen[name].dequantize()).sum()
        assert found <= min(errors["mse_clip"], errors["round_to_nearest"]) * (1 + 1e-5)
        if name == "like":
            assert found < 0.5 * min(errors["mse_clip"], errors["round_to_nearest"])
        else:
            assert errors["comq"] > errors["mse_clip"]
            np.testing.assert_array_equal(chosen[name].codes, solved(problem, "mse_clip").codes)
    assert not np.array_equal(chosen["like"].codes, chosen["unlike"].codes)


def test_more_dampings_are_no_worse_on_samples_apart():
    linear = dense(31, 7, rows=5)
    inputs = linear.inputs(correlated(linear.data, 12), apart=3)
    problem = linear.problem(inputs, CodeFormat(3), PerChannel())
    moments, weight = problem.moments(apart=True), as_matrices(problem, problem.weight).astype(np.float64)
    errors = [
        moments.error(weight, as_matrices(problem, solved(problem, name, sweeps=3).dequantize()).astype(float)).sum()
        for name in ("best", "balanced", "mse_clip")
        if name != "mse_clip" or not solved
    ]
    assert errors[0] <= 1.1 * errors[1]  # other dampings, most of which are near those


@pytest.fixture(scope="module")
def trained() -> tuple[Any, np.ndarray, np.ndarray]:
    """A small CNN for 8x8 digits, images to calibrate with, and new ones."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = (images[order].reshape(-1, 8, 8, 1) / 16).astype(np.float32), labels[order]
    model = digits.train(images[NEW:], labels[NEW:], 3)
    return model, images[NEW : NEW + CALIBRATION], images[:NEW]


def outputs(content: bytes, data: np.ndarray) -> np.ndarray:
    runner = Runner(content)
    return np.concatenate([runner.run([row[None]])[0] for row in data])


def decibels(model: Any, content: bytes, data: np.ndarray) -> float:
    expected = np.asarray(model(data), np.float64)
    return float(10 * np.log10(np.square(expected).sum() / np.square(outputs(content, data) - expected).sum()))


@pytest.fixture(scope="module")
def fitted(trained: tuple[Any, np.ndarray, np.ndarray]) -> Any:
    model, data, _ = trained
    return tfq.quantize(model, "weight_only_int4", data=data)


def test_fitted_weights_are_six_decibels_better_on_new_images(trained: tuple[Any, np.ndarray, np.ndarray], fitted: Any):
    model, data, new = trained
    fast = tfq.quantize(model, "weight_only_int4", data=data, quality="fast")
    assert decibels(model, fitted.content, new) > decibels(model, fast.content, new) + 6
    assert len(fitted.content) <= len(fast.content) + 64


def test_the_same_data_give_the_same_bytes(trained: tuple[Any, np.ndarray, np.ndarray], fitted: Any):
    model, data, _ = trained
    np.random.seed(123)  # of no consequence
    assert tfq.quantize(model, "weight_only_int4", data=data).content == fitted.content
