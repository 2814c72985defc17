"""Tiny Keras models with random weights, one for each structure that is quantized in a way of its own.

They have no accuracy; the files that are made of them are compared byte by byte (`benchmarks.same_files`). Every layer
has a name, since Keras numbers layers without one, and the number depends on what was built before.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from benchmarks.zoo.case import Case

CALIBRATION, TEST = 12, 4


def convolutions() -> Case:
    """Convolutions of every kind with batch norms, a residual addition, poolings and a classifier."""

    def build() -> keras.Model:
        image = x = layers.Input((12, 12, 3), name="image")
        x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="first")(x)
        x = shortcut = layers.ReLU(6.0, name="first_relu")(_norm("first_norm")(x))
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
        x = layers.ReLU(name="depthwise_relu")(_norm("depthwise_norm")(x))
        x = layers.Conv2D(16, 1, name="pointwise")(x)
        x = layers.Add(name="residual")([shortcut, x])
        x = layers.Conv2D(32, 3, groups=2, padding="same", activation="swish", name="grouped")(x)
        x = layers.Concatenate(name="joined")(
            [layers.MaxPooling2D(name="most")(x), layers.AveragePooling2D(2, name="mean")(x)]
        )
        x = layers.Conv2DTranspose(32, 2, strides=2, activation="relu", name="transposed")(x)
        x = layers.GlobalAveragePooling2D(name="pooled")(x)
        return keras.Model(image, layers.Dense(10, activation="softmax", name="head")(x), name="convolutions")

    return _case("convolutions", build, lambda rng, count: rng.normal(size=(count, 12, 12, 3)).astype(np.float32))


def perceptron() -> Case:
    """Dense layers of 64 inputs, which blocks of 32 divide."""

    def build() -> keras.Model:
        x = features = layers.Input((64,), name="features")
        x = layers.Dense(96, activation="relu", name="hidden")(x)
        x = layers.Dense(64, activation="tanh", name="second")(x)
        return keras.Model(features, layers.Dense(5, name="head")(x), name="perceptron")

    return _case("perceptron", build, lambda rng, count: rng.normal(size=(count, 64)).astype(np.float32))


def recurrent() -> Case:
    """Return an LSTM that the converter fuses, and one that is left as a loop since it runs both ways."""

    def build() -> keras.Model:
        x = steps = layers.Input((6, 8), batch_size=1, name="steps")
        x = layers.LSTM(16, return_sequences=True, name="fused")(x)
        x = layers.GRU(8, name="loop")(x)
        return keras.Model(steps, layers.Dense(3, activation="sigmoid", name="head")(x), name="recurrent")

    return _case("recurrent", build, lambda rng, count: rng.normal(size=(count, 6, 8)).astype(np.float32))


def attention() -> Case:
    """Return an encoder block: embedding, attention, layer norms and a GELU network between residual additions."""

    def build() -> keras.Model:
        ids = layers.Input((8,), dtype="int32", name="ids")
        x = layers.Embedding(40, 32, name="tokens")(ids)
        attended = layers.MultiHeadAttention(2, 16, name="attention")(x, x)
        x = layers.LayerNormalization(name="first_norm")(layers.Add(name="first_sum")([x, attended]))
        hidden = layers.Dense(64, activation="gelu", name="wide")(x)
        x = layers.Add(name="second_sum")([x, layers.Dense(32, name="narrow")(hidden)])
        x = layers.GlobalAveragePooling1D(name="pooled")(layers.LayerNormalization(name="second_norm")(x))
        return keras.Model(ids, layers.Dense(4, activation="softmax", name="head")(x), name="attention")

    return _case("attention", build, lambda rng, count: rng.integers(0, 40, (count, 8)).astype(np.int32))


def arithmetic() -> Case:
    """Operators without weights: moves, choices, clamps, divisions, tables, reductions and products of activations."""

    def build() -> keras.Model:
        image = x = layers.Input((8, 8, 4), name="image")
        x = layers.ZeroPadding2D(1, name="padded")(x)
        x = layers.Conv2D(8, 3, name="conv")(x)
        left, right = ops.split(x, 2, axis=-1)
        x = ops.concatenate([ops.maximum(left, right), ops.clip(left * right, -1.0, 1.0)], axis=-1)
        x = layers.UpSampling2D(2, interpolation="bilinear", name="larger")(x)
        x = ops.transpose(x, (0, 2, 1, 3))[:, ::2, 1:15]
        x = x / (1.0 + ops.exp(x)) + ops.sqrt(ops.abs(x)) - ops.log(1.0 + ops.square(x))
        x = ops.where(ops.greater(x, 0.0), x, 0.1 * x)
        x = ops.reshape(x, (-1, 112, 8))
        x = ops.matmul(ops.transpose(x, (0, 2, 1)), x)
        x = ops.concatenate([ops.sum(x, axis=1), ops.max(x, axis=2), ops.mean(x, axis=1)], axis=-1)
        return keras.Model(image, layers.Dense(3, name="head")(x), name="arithmetic")

    return _case("arithmetic", build, lambda rng, count: rng.normal(size=(count, 8, 8, 4)).astype(np.float32))


STRUCTURES: dict[str, Callable[[], Case]] = {
    make.__name__: make for make in (convolutions, perceptron, recurrent, attention, arithmetic)
}


def _norm(name: str) -> layers.Layer:
    return layers.BatchNormalization(
        gamma_initializer="he_normal", beta_initializer="he_normal", moving_mean_initializer="he_normal", name=name
    )


def _case(name: str, build: Callable[[], keras.Model], draw: Callable[[np.random.Generator, int], NDArray]) -> Case:
    keras.utils.set_random_seed(0)
    model, rng = build(), np.random.default_rng(0)
    return Case(name, model, draw(rng, CALIBRATION), draw(rng, TEST), None, model.output_shape[-1])
