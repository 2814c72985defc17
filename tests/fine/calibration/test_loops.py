"""Inputs of recurrent operators, in loops and fused, against the recurrence in numpy, and weights fitted to them."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import tfq_fine as tfq
from support import fused_lstms
from tfq_converters.operators import lstm
from tfq_converters.reading import read_model
from tfq_fine.calibration import Layerwise, loop_moments, loop_operators

pytestmark = pytest.mark.usefixtures("conversions_once")
STEPS, INPUTS, UNITS = 11, 13, 7
RNG = np.random.default_rng(2)


def recurrent() -> Any:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [layers.Input((STEPS, INPUTS)), layers.LSTM(UNITS, name="memory"), layers.Dense(5, name="head")]
    )


@pytest.fixture(scope="module")
def model() -> Any:
    return recurrent()


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    """Inputs that go together, and along the steps."""
    mixing = RNG.normal(size=(4, INPUTS))
    sources = np.cumsum(RNG.normal(size=(60, STEPS, 4)), axis=1) / 2
    return (sources @ mixing + 0.3 * RNG.normal(size=(60, STEPS, INPUTS))).astype(np.float32)


def states(model: Any, data: np.ndarray) -> np.ndarray:
    """What the recurrent matrix of the LSTM reads at each step, [samples, steps, units]."""
    kernel, recurrent, bias = (np.asarray(w, np.float64) for w in model.get_layer("memory").weights)
    h = c = np.zeros((len(data), UNITS))
    read = []
    for t in range(STEPS):
        read.append(h)
        i, f, g, o = np.split(data[:, t] @ kernel + h @ recurrent + bias, 4, axis=1)
        c = 1 / (1 + np.exp(-f)) * c + 1 / (1 + np.exp(-i)) * np.tanh(g)
        h = 1 / (1 + np.exp(-o)) * np.tanh(c)
    return np.stack(read, axis=1)


def test_moments_are_those_of_the_recurrence(model: Any, data: np.ndarray):
    graph = read_model(model).graph
    moments = loop_moments(graph, [(row[None],) for row in data])
    assert set(moments) == set(loop_operators(graph)) and len(moments) == 2
    expected = {INPUTS: data.astype(np.float64), UNITS: states(model, data)}
    for found in moments.values():
        rows = expected[found.hessian.shape[1]].reshape(-1, found.hessian.shape[1])
        assert found.count == len(rows) and not found.cross.any()
        np.testing.assert_allclose(found.hessian[0], rows.T @ rows / len(rows), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.exact_mean[0], rows.mean(axis=0), rtol=1e-4, atol=1e-5)


def test_weights_inside_loops_are_fitted(model: Any, data: np.ndarray):
    """At 3 bits, where a few outputs of both matrices are far off if each weight is rounded by itself."""
    expected = model.predict(data, verbose=0)
    errors, algorithms = {}, {}
    for name in ("gptq", "comq", "balanced", "mse_clip"):
        spec = tfq.WeightSpec(3, algorithm=name)
        recipe = tfq.Recipe("loop", None, flexible=True).with_rules(
            tfq.Rule(tfq.OpSpec("weight_only", spec), layer="memory")
        )
        result = tfq.quantize(model, recipe, data, prefer="size", transforms=None)
        simulated = tfq.simulate(model, result).predict(data, verbose=0)
        errors[name] = float(np.square(simulated - expected).mean())
        algorithms[name] = {row.algorithm.split(",")[0] for row in result.report.rows if row.weights}
    assert algorithms["gptq"] == {"gptq"} and algorithms["comq"] == {"comq"} and "comq" in algorithms["balanced"]
    assert all(errors[name] < 0.7 * errors["mse_clip"] for name in ("gptq", "comq", "balanced"))


def fused_states(x: np.ndarray) -> np.ndarray:
    """What the recurrent weights of the fused LSTM read at each step of one sequence, [steps, units]."""
    read = [np.zeros(fused_lstms.UNITS)]

    def seen(state: np.ndarray) -> np.ndarray:
        read.append(state)
        return state

    _, weights, biases = fused_lstms.operands(fused_lstms.File(fused_lstms.content()))
    fused_lstms.lstm(x, weights, biases, seen)
    return np.stack(read[:-1])


def test_fused_lstms_read_their_input_and_their_output_a_step_before():
    graph = read_model(fused_lstms.content()).graph
    (o,) = [o for o, op in enumerate(graph.main.ops) if op.code == lstm.CODE]
    x = fused_lstms.sequences(5)
    inputs = Layerwise(graph, [(row[None],) for row in x[:4]], [(x[4][None],)]).inputs_of((0, o), {})
    assert inputs.state is not None and inputs.state.apart == inputs.apart == 1
    for row, own, state in zip(x, inputs.exact, inputs.state.exact, strict=True):
        np.testing.assert_array_equal(own.reshape(row.shape), row)
        np.testing.assert_allclose(state.reshape(row.shape[0], -1), fused_states(row), atol=1e-5)  # float32 sums


def test_weights_of_fused_lstms_are_fitted():
    x = (fused_lstms.sequences(60) @ RNG.normal(size=(fused_lstms.FEATURES, fused_lstms.FEATURES))).astype(np.float32)
    expected = fused_lstms.run(fused_lstms.content(), "default", x)
    errors = {}
    for name in ("mse_clip", "comq"):
        spec = tfq.WeightSpec(2, algorithm=name)
        recipe = tfq.Recipe("fused", tfq.OpSpec("weight_only", spec), flexible=True)
        result = tfq.quantize(fused_lstms.content(), recipe, x, prefer="size", transforms=None)
        errors[name] = float(np.square(fused_lstms.run(result.content, "default", x) - expected).mean())
        assert {row.algorithm for row in result.report.rows if row.weights} == {name}
    assert errors["comq"] < 0.7 * errors["mse_clip"]
