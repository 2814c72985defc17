"""Keras models whose layers are hard to recognise in what the converter makes of them."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers


def randomized(model: Any, seed: int = 0) -> Any:
    """Every variable random: batch norms that turn signs around included."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if "float" in str(variable.dtype):
            spread = np.abs if "variance" in variable.name else np.asarray
            variable.assign(spread(rng.standard_normal(tuple(variable.shape))) + 0.01)
    return model


def nested() -> Any:
    """Layers of equal names in several places, an inner model that is called twice, a layer that is called twice."""
    inner = keras.Sequential(
        [
            layers.Input((8, 8, 4)),
            layers.Conv2D(4, 3, padding="same", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
        ],
        name="block",
    )
    image = x = layers.Input((16, 16, 4), name="image")
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="conv")(x)
    x = inner(inner(x))
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    shared = layers.Dense(4, name="shared")
    x = shared(layers.Activation("tanh", name="tanh")(shared(x)))
    x = layers.Dropout(0.5, name="dropout")(x)
    return keras.Model(image, layers.Dense(4, activation="softmax", name="head")(x), name="net")


def attention() -> Any:
    x = layers.Input((6, 8), batch_size=1, name="x")
    y = layers.MultiHeadAttention(2, 4, name="mha")(x, x)
    y = layers.LayerNormalization(name="norm")(layers.Add(name="add")([x, y]))
    return keras.Model(x, layers.Dense(8, activation="gelu", name="dense")(y), name="attention")


def recurrent() -> Any:
    steps = layers.Input((5, 4), name="steps")
    x = layers.GRU(3, return_sequences=True, name="gru")(steps)
    x = layers.Bidirectional(layers.LSTM(3, name="lstm"), name="both")(x)
    return keras.Model(steps, layers.Dense(2, name="head")(x), name="recurrent")


def kinds() -> Any:
    """A kernel of every kind that the converter lays out anew."""
    image = x = layers.Input((2, 2, 6), name="image")
    x = layers.SeparableConv2D(6, 3, padding="same", name="separable")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Conv2D(6, 3, groups=2, padding="same", activation="relu", name="grouped")(x)
    x = layers.Conv2DTranspose(5, 3, strides=2, padding="same", name="transposed")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
    x = layers.Reshape((4, 10), name="reshape")(x)
    x = layers.Conv1D(7, 3, padding="causal", name="conv1d")(x)
    x = layers.EinsumDense("abc,cde->abde", output_shape=(None, 3, 4), name="heads")(x)
    x = layers.Reshape((4, 12), name="again")(x)
    x = layers.TimeDistributed(layers.Dense(5, name="inner"), name="distributed")(x)
    return keras.Model(image, layers.GlobalAveragePooling1D(name="pool")(x), name="kinds")


MODELS: dict[str, Callable[[], Any]] = {f.__name__: f for f in (nested, attention, recurrent, kinds)}
