"""Wrappers get the codes that `quantize` fits to the inputs of each layer, and keep them in training and export."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import tfq_fine as tfq
from support.wrapped_models import file_outputs, small_cnn
from tfq_converters.operators import weight_axes
from tfq_converters.quantized import WeightCodes
from tfq_fine.layers.wrapped import wrappers

pytestmark = pytest.mark.usefixtures("conversions_once")
RNG = np.random.default_rng(3)


def dense() -> Any:
    """Two dense layers over inputs that go together."""
    inputs = keras.Input((23,))
    hidden = layers.Dense(17, activation="relu", name="first")(inputs)
    model = keras.Model(inputs, layers.Dense(5, name="second")(hidden))
    for weight in model.weights:
        weight.assign(RNG.normal(size=weight.shape))
    return model


def mixed(*shape: int) -> np.ndarray:
    """Values that go together along the last axis."""
    mixing = RNG.normal(size=(max(shape[-1] // 3, 1), shape[-1]))
    return (RNG.normal(size=(*shape[:-1], len(mixing))) @ mixing + 0.3 * RNG.normal(size=shape)).astype(np.float32)


MODELS = {"dense": (dense, (60, 23)), "cnn": (small_cnn, (60, 12, 10, 3))}


def codes_of(result: Any) -> dict[str, WeightCodes]:
    """The codes of each layer."""
    graph, found = result.quantized.graph, {}
    for (s, o), op in graph.ops():
        for axes in weight_axes(op, graph.subgraphs[s]):
            found[op.layer] = result.quantized.ops[s, o].weights[axes.slot]
    return found


SETTINGS = {
    "weight_only": tfq.Recipe("a", tfq.OpSpec("weight_only", tfq.WeightSpec(3)), flexible=True),
    "blocks": tfq.Recipe("b", tfq.OpSpec("weight_only", tfq.WeightSpec(3, tfq.Blocks(5))), flexible=True),
    "asymmetric": tfq.Recipe("c", tfq.OpSpec("weight_only", tfq.WeightSpec(4, symmetric=False)), flexible=True),
    "integer": tfq.RECIPES["full_w4a8"],
}


@pytest.mark.parametrize(
    ("name", "algorithm", "setting", "learned"),
    [
        ("dense", "gptq", "integer", True),
        ("dense", "qronos", "weight_only", False),
        ("dense", "comq", "asymmetric", False),
        ("cnn", "comq", "integer", False),
        ("cnn", "balanced", "blocks", True),
    ],
)
def test_wrappers_get_the_codes_of_quantize(name: str, algorithm: str, setting: str, learned: bool):
    make, shape = MODELS[name]
    model, data = tfq.fold_batch_norm(make()).model, mixed(*shape)
    recipe = SETTINGS[setting].with_algorithm(algorithm)
    wrapped = tfq.annotate(model, recipe, learned=learned)
    kernels = [np.asarray(q.variable) for w in wrappers(wrapped) for q in w.kernels]
    for _ in range(2):  # the second calibration starts from the float weights again
        tfq.calibrate(wrapped, data)
    expected = codes_of(tfq.quantize(model, recipe, data, transforms=None, prefer="size"))
    plain = codes_of(tfq.quantize(model, recipe.with_algorithm("mse_clip"), data, transforms=None, prefer="size"))
    found = codes_of(tfq.quantize(wrapped, data=data))
    assert len(found) == len(expected) >= 2
    for layer, codes in expected.items():
        np.testing.assert_array_equal(found[layer].codes, codes.codes, err_msg=layer)
        np.testing.assert_allclose(found[layer].scale, codes.scale, rtol=1e-6)
        np.testing.assert_array_equal(found[layer].zero_point, codes.zero_point)
        assert not np.array_equal(codes.codes, plain[layer].codes)
    for kernel, q in zip(kernels, (q for w in wrappers(wrapped) for q in w.kernels), strict=True):
        np.testing.assert_array_equal(kernel, np.asarray(q.variable))


def test_the_simulation_computes_what_the_file_does_and_training_moves_the_codes():
    model, data = tfq.fold_batch_norm(small_cnn()).model, mixed(60, 12, 10, 3)
    wrapped = tfq.annotate(model, tfq.RECIPES["full_w4a8"].with_algorithm("qronos"))
    tfq.calibrate(wrapped, data)
    before = codes_of(tfq.quantize(wrapped, data=data))
    for wrapper in wrappers(wrapped):
        kernel = wrapper.kernels[0].variable
        kernel.assign(np.asarray(kernel) * 1.5)
    result = tfq.quantize(wrapped, data=data)
    stored = file_outputs(result, data[:8])
    step = np.abs(stored).max() / 127
    np.testing.assert_allclose(wrapped.predict(data[:8], verbose=0), stored, atol=3 * step)  # rounding of 8 bits
    after = codes_of(result)
    assert all(not np.array_equal(codes.codes, after[layer].codes) for layer, codes in before.items())


def test_biases_are_corrected_in_the_simulation_and_in_the_file():
    """The mean of the outputs stays that of the float model, which 2 bits alone would move."""
    model, data = dense(), mixed(60, 23) + np.float32(0.5)
    recipe = tfq.Recipe("d", tfq.OpSpec("weight_only", tfq.WeightSpec(2)), flexible=True).with_algorithm("qronos")
    wrapped = tfq.annotate(model, recipe)
    expected = model.predict(data, verbose=0).mean(axis=0)
    tfq.calibrate(wrapped, data)
    stored = file_outputs(tfq.quantize(wrapped, data=data), data)
    simulated = wrapped.predict(data, verbose=0)
    np.testing.assert_allclose(simulated, stored, rtol=1e-4, atol=1e-4 * np.abs(stored).max())  # float32 sums
    deviation = model.predict(data, verbose=0).std(axis=0)
    assert (np.abs(simulated.mean(axis=0) - expected) < 0.4 * deviation).all()
