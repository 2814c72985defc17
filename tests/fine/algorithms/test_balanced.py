"""The choice by samples kept apart, and what the fitted weights of a whole file are worth."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import tfq_fine as tfq
from examples import digits
from support.linear_operators import dense, output_error, solved
from tfq_converters.operators import bias_of, bias_slot, weight_axes
from tfq_converters.runtime import Runner
from tfq_fine.algorithms import ALGORITHMS, WeightProblem
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
    np.random.seed(123)  # nothing draws from it
    assert tfq.quantize(model, "weight_only_int4", data=data).content == fitted.content


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[WeightProblem]:
    """The problems that `balanced` solves from now on."""
    solved_problems: list[WeightProblem] = []
    row = ALGORITHMS["balanced"]

    def solve(problem: WeightProblem) -> Any:
        solved_problems.append(problem)
        return row.solve(problem)

    monkeypatch.setitem(ALGORITHMS, "balanced", replace(row, solve=solve))
    return solved_problems


def test_biases_keep_the_means_of_fitted_samples(
    trained: tuple[Any, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
):
    """Of the first operators before their activation, by their patches; of the last one as the file computes it."""
    model, data, new = trained
    problems = recorded(monkeypatch)
    result = tfq.quantize(model, "weight_only_int4", data=data)
    inputs = {problem.inputs.values.op.layer: problem.inputs.values for problem in problems if problem.inputs.values}
    assert len(inputs) == 4
    graph, checked = result.quantized.graph, 0
    for o, op in enumerate(graph.main.ops):
        if op.layer not in list(inputs)[:3]:
            continue
        values, encoding = inputs[op.layer], result.quantized.ops[0, o]
        (axes,) = weight_axes(op, graph.main)
        weight, bias = (graph.main.tensors[t].constant for t in (op.inputs[axes.slot], bias_of(op)))
        exact, quantized = (
            np.concatenate(each, axis=1).astype(np.float64)[0]
            for each in zip(*values.patches(0, values.fitted), strict=True)
        )
        stored, corrected = encoding.weights[axes.slot].dequantize(), encoding.weights[bias_slot(op.code)]
        before = exact.mean(axis=0) @ weight.reshape(len(weight), -1).T + bias
        after = quantized.mean(axis=0) @ stored.reshape(len(stored), -1).T + corrected
        np.testing.assert_allclose(after, before, atol=1e-4)
        assert np.abs(corrected - bias).max() > 1e-3
        checked += 1
    assert checked == 3
    first = next(iter(inputs.values()))
    images = np.concatenate(first.exact[: first.fitted])
    assert 50 <= len(images) < CALIBRATION  # others are kept apart
    means = outputs(result.content, images).mean(axis=0), np.asarray(model(images)).mean(axis=0)
    np.testing.assert_allclose(*means, atol=1e-4 * np.abs(np.asarray(model(images))).max())
    others = outputs(result.content, new).mean(axis=0) - np.asarray(model(new)).mean(axis=0)
    assert np.abs(others).max() > 1e-3  # what no bias was fitted to
