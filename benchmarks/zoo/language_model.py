"""The decoder of `examples/language_model.py`, as it is and with outlier channels; labels are the following words."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np

from benchmarks.zoo.bbc_news import bbc_news_sequences
from benchmarks.zoo.case import Case
from benchmarks.zoo.trained import trained
from examples import language_model as example

CHANNELS, FACTOR = 4, 100.0  # outlier channels of each norm, and how much larger they are

CALIBRATION, TEST = 128, 256  # rows of 128 words


def language_model() -> Case:
    """Return a decoder of four blocks, input (128,) word ids, logits (128, 4096)."""
    train, test = bbc_news_sequences(example.WORDS, example.TOKENS + 1)
    model = trained("language_model", example.trained)
    inputs, following = test[:TEST, :-1], test[:TEST, 1:]
    return Case("language_model", model, train[:CALIBRATION, :-1], inputs, following.astype(np.int64), example.WORDS)


def language_model_outliers() -> Case:
    """Return `language_model` with outlier channels in the result of every norm; it computes the same function."""
    case = language_model()
    _add_outliers(case.model)
    return replace(case, name="language_model_outliers")


def _add_outliers(model: keras.Model) -> None:
    """Multiply some channels of each layer norm by FACTOR, and divide the rows of the matrices that read them."""
    rng = np.random.default_rng(0)
    for norm in (layer for layer in model.layers if isinstance(layer, keras.layers.LayerNormalization)):
        size = np.ones(example.WIDTH, np.float32)
        size[rng.choice(example.WIDTH, CHANNELS, replace=False)] = FACTOR
        for variable in (norm.gamma, norm.beta):
            variable.assign(variable * size)
        readers = [layer for layer in model.layers if any(x is norm.output for x in keras.tree.flatten(layer.input))]
        for kernel in (kernel for layer in readers for kernel in _kernels(layer)):
            kernel.assign(kernel / size.reshape(-1, *[1] * (len(kernel.shape) - 1)))


def _kernels(layer: keras.Layer) -> list[keras.Variable]:
    """Return the matrices [inputs, ...] of a layer that multiply its input."""
    if isinstance(layer, keras.layers.MultiHeadAttention):
        return [part.kernel for part in (layer.query_dense, layer.key_dense, layer.value_dense)]
    return [layer.kernel]
