"""The decoder of `examples/language_model.py`, also with outlier channels or RMS norms; labels are the next words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import keras
import numpy as np

from benchmarks.zoo.case import Case
from benchmarks.zoo.trained import trained
from examples import language_model as example
from examples.datasets.bbc_news import bbc_news_sequences

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


def language_model_rms() -> Case:
    """Return `language_model` with RMS norms; it computes the same function.

    The means that its layer norms subtract are taken out of all that writes to the residual stream (SliceGPT, arXiv
    2401.15024, section 3.1), and beta goes into the biases of what reads a norm.
    """
    case = language_model()
    model = example.decoder(rms=True)
    for before, layer in zip(case.model.layers, model.layers, strict=True):
        if not isinstance(layer, keras.layers.RMSNormalization):
            layer.set_weights(before.get_weights())
    for before, norm in zip(_norms(case.model), _norms(model), strict=True):
        norm.scale.assign(before.gamma)
        for part in (part for layer in _readers(model, norm) for part in _matrices(layer)):
            part.bias.assign(part.bias + np.tensordot(before.beta, part.kernel, 1))
    for variable in _writing(model):
        variable.assign(variable - np.mean(variable, axis=-1, keepdims=True))
    model.compile(jit_compile=False)
    return replace(case, name="language_model_rms", model=model)


def _add_outliers(model: keras.Model) -> None:
    """Multiply the largest channels of each layer norm by FACTOR, and divide the weights that read them."""
    for norm in _norms(model):
        size = np.ones(example.WIDTH, np.float32)
        size[np.argsort(np.square(norm.gamma) + np.square(norm.beta))[-CHANNELS:]] = FACTOR
        for variable in (norm.gamma, norm.beta):
            variable.assign(variable * size)
        for part in (part for layer in _readers(model, norm) for part in _matrices(layer)):
            part.kernel.assign(part.kernel / size.reshape(-1, *[1] * (len(part.kernel.shape) - 1)))


def _norms(model: keras.Model) -> list[keras.Layer]:
    kinds = (keras.layers.LayerNormalization, keras.layers.RMSNormalization)
    return [layer for layer in model.layers if isinstance(layer, kinds)]


def _readers(model: keras.Model, norm: keras.Layer) -> list[keras.Layer]:
    """Return the layers that read a norm."""
    return [layer for layer in model.layers if any(x is norm.output for x in keras.tree.flatten(layer.input))]


def _matrices(layer: keras.Layer) -> list[keras.Layer]:
    """Return the layers with a kernel [inputs, ...] and a bias that multiply the input of a layer."""
    if isinstance(layer, keras.layers.MultiHeadAttention):
        return [layer.query_dense, layer.key_dense, layer.value_dense]
    return [layer]


def _writing(model: keras.Model) -> Iterator[keras.Variable]:
    """Yield the constants [..., WIDTH] that are added to the residual stream."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Embedding):
            yield layer.embeddings
        elif isinstance(layer, keras.layers.MultiHeadAttention):
            yield from (layer.output_dense.kernel, layer.output_dense.bias)
        elif isinstance(layer, keras.layers.Dense) and layer.units == example.WIDTH:
            yield from (layer.kernel, layer.bias)
