"""What the stock converter merges into the weights of a wrapped layer, and what it must not."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import tfq_fine as tfq
from support.wrapped_models import calibrated, file_outputs, output_steps, sqnr_db


class NormBehind(keras.Model):
    """A convolution with batch norm and ReLU after it, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = layers.Conv2D(5, 3, use_bias=False), layers.BatchNormalization()
        self.pool, self.head = layers.GlobalAveragePooling2D(), layers.Dense(4)

    def call(self, x: Any) -> Any:
        return self.head(self.pool(keras.ops.relu(self.norm(self.conv(x)))))


class NormInFront(layers.Layer):
    """Batch norm and the layer that reads it."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        self.norm, self.dense = layers.BatchNormalization(), layers.Dense(5)

    def call(self, x: Any) -> Any:
        return self.dense(self.norm(x))


def with_weights(model: Any) -> Any:
    """The model with random weights of both signs; its norms scale, shift and turn signs."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.uniform(0.5, 2.0, weight.shape) * rng.choice([-1, 1], weight.shape))
        if weight.name == "moving_variance":
            weight.assign(np.abs(weight))
    return model


def samples(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 255, (16, *shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("recipe", "least"), [("full_int8", 40), ("dynamic_int8", 100), ("weight_only_int8", 100)], ids=lambda x: str(x)
)
def test_batch_norm_behind_a_layer_of_a_subclassed_model_goes_into_its_scales(recipe: str, least: float):
    """In integers the output is rounded once more; else only the order of float32 sums differs."""
    model, data = NormBehind(), samples(9, 7, 3)
    model(data)
    wrapped = calibrated(with_weights(model), recipe, data)
    result = tfq.quantize(wrapped, data=data)
    assert {"MUL", "ADD"}.isdisjoint(op.code for op in result.graph.main.ops)
    assert sqnr_db(file_outputs(result, data), np.asarray(wrapped(data))) > least


def two_readers(x: Any) -> Any:
    norm = layers.BatchNormalization()(x)
    return layers.Concatenate()([layers.Dense(5)(norm), layers.Dense(4)(norm)])


IN_FRONT: dict[str, tuple[tuple[int, ...], Callable[[Any], Any]]] = {
    "norm, dense in a custom layer": ((7,), lambda x: NormInFront()(x)),
    "norm, two dense": ((7,), two_readers),
    "rescaling with offset, dense": ((7,), lambda x: layers.Dense(5)(layers.Rescaling(2 / 255, -1)(x))),
    "rescaling with offset, conv": ((9, 7, 3), lambda x: layers.Conv2D(5, 3)(layers.Rescaling(2 / 255, -1)(x))),
}


@pytest.mark.parametrize("name", IN_FRONT)
def test_what_stands_in_front_of_a_wrapped_layer_is_not_merged_into_it(name: str):
    """It was merged: an error with batch norm; 48 dB with an offset, and with ranges of integers another tensor's."""
    shape, make = IN_FRONT[name]
    inputs, data = keras.Input(shape), samples(*shape)
    model = with_weights(keras.Model(inputs, make(inputs)))
    for recipe, least in (("dynamic_int8", 100), ("weight_only_int8", 100), ("full_int8", 30)):
        wrapped = calibrated(model, recipe, data)  # MUL and ADD in integers are not simulated
        result = tfq.quantize(wrapped, data=data)
        assert "MAXIMUM" not in [op.code for op in result.graph.main.ops]
        assert sqnr_db(file_outputs(result, data), np.asarray(wrapped(data))) > least, recipe


@pytest.mark.parametrize("kind", ["rescaling", "division"])
def test_a_rescaled_input_keeps_its_range(kind: str):
    """The wrapper's range of the rescaled input held for the input as it comes: all of the file saturated."""
    inputs, data = keras.Input((9, 7, 3)), samples(9, 7, 3)
    scaled = layers.Rescaling(1 / 255)(inputs) if kind == "rescaling" else inputs / 255.0
    model = with_weights(keras.Model(inputs, layers.Conv2D(5, 3)(scaled)))
    wrapped = calibrated(model, "full_int8", data)
    result = tfq.quantize(wrapped, data=data)
    (step,) = output_steps(result).values()
    assert np.abs(file_outputs(result, data) - np.asarray(wrapped(data))).max() <= 1.001 * step
