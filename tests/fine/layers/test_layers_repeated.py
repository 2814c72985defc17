"""TimeDistributed: the layer in it is wrapped, whatever it is; what cannot be wrapped is named."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import tfq_fine as tfq
from support.wrapped_models import calibrated, file_outputs, sqnr_db
from tfq_fine.layers.wrapped import wrappers

RNG = np.random.default_rng(0)


@keras.saving.register_keras_serializable("tests")
class Pair(layers.Layer):
    """Two layers of a class of the user's."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        self.first, self.last = layers.Dense(6, activation="relu"), layers.Dense(5)

    def build(self, shape: Any) -> None:
        self.first.build(shape)
        self.last.build((*shape[:-1], 6))

    def call(self, x: Any) -> Any:
        return self.last(self.first(x))

    def compute_output_shape(self, shape: Any) -> Any:
        return (*shape[:-1], 5)


class Matrix(layers.Layer):
    """A layer type that has no row."""

    def build(self, shape: Any) -> None:
        self.matrix = self.add_weight(shape=(shape[-1], 5), initializer="glorot_uniform", name="matrix")

    def call(self, x: Any) -> Any:
        return keras.ops.matmul(x, self.matrix)

    def compute_output_shape(self, shape: Any) -> Any:
        return (*shape[:-1], 5)


ROW = tfq.layers.LayerRow((tfq.layers.Kernel("matrix", "FULLY_CONNECTED", ((1,), (0,))),))


def convolutions() -> Any:
    """A model of its own for every step."""
    return keras.Sequential(
        [keras.Input((9, 7, 3)), layers.Conv2D(5, 3), layers.BatchNormalization(), layers.ReLU(), layers.Conv2D(4, 2)]
    )


INNER: dict[str, tuple[tuple[int, ...], Callable[[], Any], int]] = {  # shape of a sample, the layer, how many wrappers
    "custom layer": ((4, 7), Pair, 2),
    "model": ((3, 9, 7, 3), convolutions, 2),
    "lstm": ((2, 3, 5), lambda: layers.LSTM(7), 1),
}


@pytest.mark.parametrize("name", INNER)
def test_layers_that_every_step_calls(name: str, tmp_path: Path):
    shape, make, count = INNER[name]
    inputs, data = keras.Input(shape), RNG.normal(size=(5, *shape)).astype(np.float32)
    model = keras.Model(inputs, layers.TimeDistributed(make())(inputs))
    wrapped = calibrated(model, "weight_only_int4", data)
    assert len(wrappers(wrapped)) == count and not wrappers(model)
    expected = np.asarray(wrapped(data))
    assert sqnr_db(expected, np.asarray(model(data))) < 30  # 4 bits
    result = tfq.quantize(wrapped)
    assert sqnr_db(file_outputs(result, data), expected) > 100  # the order of float32 sums
    wrapped.save(tmp_path / "wrapped.keras")
    loaded = keras.saving.load_model(tmp_path / "wrapped.keras")
    np.testing.assert_array_equal(np.asarray(loaded(data)), expected)
    assert tfq.quantize(loaded).content == result.content


def test_rules_and_rows_of_the_layer_in_it_hold():
    inputs = keras.Input((4, 7))
    x = layers.TimeDistributed(layers.Dense(6, name="kept"))(inputs)
    model = keras.Model(inputs, layers.TimeDistributed(Matrix(name="own"))(x))
    recipe = tfq.RECIPES["weight_only_int8"].with_rules(
        tfq.Rule(None, layer="kept"), tfq.Rule(tfq.OpSpec("weight_only", tfq.WeightSpec(4)), layer_class="Matrix")
    )
    wrapped = tfq.annotate(model, recipe, rows={"Matrix": ROW})
    (wrapper,) = wrappers(wrapped)
    assert (wrapper.layer.layer.name, wrapper.spec.weights.bits) == ("own", 4)
    data = RNG.normal(size=(3, 4, 7)).astype(np.float32)
    assert sqnr_db(file_outputs(tfq.quantize(wrapped), data), np.asarray(wrapped(data))) > 100


def test_a_wrapper_in_a_layer_of_keras_is_an_error():
    wrapper = tfq.layers.FineQuantize(layers.Dense(5, name="dense"), tfq.WeightSpec(8))
    with pytest.raises(tfq.TfqError, match=r"'dense'.*FineQuantize\(TimeDistributed"):
        layers.TimeDistributed(wrapper)(keras.Input((4, 7)))


def test_layers_that_nothing_wraps_are_named(caplog: pytest.LogCaptureFixture):
    """Those that the recipe quantizes, and no others."""
    inputs = keras.Input((6, 7))
    x = layers.PReLU(name="prelu")(layers.LayerNormalization(axis=[1, 2], name="norm")(inputs))
    x = layers.SpectralNormalization(layers.Dense(7, name="spectral"), name="spectral_normalization")(x)
    x = Matrix(name="float")(Matrix(name="own")(x))
    x = layers.RNN(layers.StackedRNNCells([layers.GRUCell(5)]), name="stacked")(x)
    model = keras.Model(inputs, layers.Dense(3, name="head")(x))
    recipe = tfq.RECIPES["weight_only_int8"].with_rules(tfq.Rule(None, layer="float"))
    with caplog.at_level(logging.WARNING, logger="tfq_fine"):
        assert len(wrappers(tfq.annotate(model, recipe))) == 1
    named = [text for text in caplog.messages if "is not wrapped" in text]
    assert len(named) == 3
    for layer, why in (
        ("own", "its type is unknown"),
        ("stacked", "its type is unknown"),
        ("spectral_normalization/spectral", "inside a Keras layer"),
    ):
        assert any(f"{layer}'" in text and why in text for text in named), layer
