"""Small Keras models that the tests of reading share, each converted once in a process."""

from collections.abc import Callable
from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tfq_converters.graph import Graph
from tfq_converters.reading.comparison.conversion_check import run_signature
from tfq_converters.reading.comparison.inputs import random_inputs
from tfq_converters.reading.reader import Source, read_model


def cnn() -> Any:
    image = x = layers.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name="conv")(x)
    x = layers.BatchNormalization(name="norm", gamma_initializer="he_normal", beta_initializer="he_normal")(x)
    x = layers.ReLU(6.0, name="relu")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Flatten(name="flat")(x)
    return keras.Model(image, layers.Dense(5, activation="softmax", name="head")(x), name="cnn")


def lstm() -> Any:
    steps = layers.Input((5, 4), name="steps")
    return keras.Model(steps, layers.Dense(2, name="head")(layers.LSTM(3, name="lstm")(steps)), name="lstm_net")


def two_by_two() -> Any:
    """Two inputs in another order than that of their names, two outputs of one shape."""
    a, b = layers.Input((4,), name="a"), layers.Input((6,), name="b")
    joined = layers.Concatenate(name="join")([b, a])
    outputs = [layers.Dense(3, name="first")(joined), layers.Dense(3, activation="tanh", name="second")(a)]
    return keras.Model([b, a], outputs, name="two_by_two")


def shared() -> Any:
    dense = layers.Dense(6, name="shared")
    x = layers.Input((6,), name="x")
    return keras.Model(x, dense(layers.Activation("tanh", name="tanh")(dense(x))), name="shared_net")


class SumToScalar(layers.Layer):
    """Reshapes to a scalar: the file holds a shape constant without elements."""

    def call(self, x: Any) -> Any:
        return tf.reshape(tf.reduce_sum(x), [])


def scalar() -> Any:
    return keras.Sequential([layers.Input((4,), batch_size=1, name="x"), SumToScalar(name="sum")], name="scalar")


def embeddings() -> Any:
    ids = layers.Input((6,), dtype="int32", name="ids")
    both = layers.Add(name="add")(
        [layers.Embedding(50, 4, name="large")(ids), layers.Embedding(3, 4, name="small")(ids)]
    )
    return keras.Model(ids, layers.GlobalAveragePooling1D(name="pool")(both), name="embeddings")


def tf_keras_lstm() -> Any:
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    steps = tf_keras.layers.Input((5, 4), name="steps")
    x = tf_keras.layers.LSTM(3, name="lstm")(steps)
    return tf_keras.Model(steps, tf_keras.layers.Dense(2, name="head")(x), name="old_lstm")


def two_signatures() -> Any:
    """A folder with `serve`, `serving_default` (the same) and `encode`, as Keras' ExportArchive writes it."""
    x = layers.Input((6,), name="x")
    hidden = layers.Dense(4, activation="relu", name="encoder")(x)
    encoder, model = keras.Model(x, hidden), keras.Model(x, layers.Dense(2, name="decoder")(hidden), name="codec")
    archive = keras.export.ExportArchive()
    archive.track(model)
    spec = [tf.TensorSpec((None, 6), tf.float32, name="x")]
    archive.add_endpoint("serve", lambda x: model(x, training=False), spec)
    archive.add_endpoint("encode", lambda x: encoder(x, training=False), spec)
    return model, encoder, archive


def big() -> Any:
    """Beyond the 1024 values below which TFLiteConverter leaves weights alone."""
    return keras.Sequential([layers.Input((64,), name="x"), layers.Dense(64, name="dense")], name="big")


MODELS: dict[str, Callable[[], Any]] = {
    f.__name__: f for f in (cnn, lstm, two_by_two, shared, scalar, embeddings, tf_keras_lstm, big)
}


@cache
def source(name: str) -> Source:
    """What `read_model` makes of a model."""
    keras.utils.set_random_seed(1)
    return read_model(MODELS[name]())


def run(graph: Graph, content: bytes | str, inputs: dict[str, np.ndarray], kernels: Any = "default") -> dict[str, Any]:
    """All outputs of the signature on subgraph 0."""
    signature = next(found for found in graph.signatures if found.subgraph == 0)
    return run_signature(graph, content, signature, inputs, kernels)  # type: ignore[arg-type]


def inputs_of(graph: Graph, samples: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    signature = next(found for found in graph.signatures if found.subgraph == 0)
    return random_inputs(graph, signature, samples, 7, seed)
