"""A text transformer with padding: an attention mask inside the graph, added to the scores as (1 - mask) * -10000."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from benchmarks.zoo.case import Case
from benchmarks.zoo.trained import trained
from examples.datasets.bbc_news import PADDING, TOKENS, bbc_news

CALIBRATION, EPOCHS, BATCH = 100, 4, 32
WORDS, WIDTH, HEADS, BLOCKS = 8000, 64, 4, 2
SHORTEST = 16  # words of a text
MASKED = -1e4


def masked_transformer() -> Case:
    """Two blocks, input (128,) word ids, logits of five classes, BBC News cut to 16 .. 128 words."""
    data = bbc_news(WORDS)
    model = trained("masked_transformer", _train)
    return Case("masked_transformer", model, _cut(data.train)[:CALIBRATION], _cut(data.test), data.test_labels, 5)


def _cut(ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """Texts (n, 128) of random lengths; the rest is padding."""
    lengths = np.random.default_rng(0).integers(SHORTEST, TOKENS + 1, len(ids))
    return np.where(np.arange(TOKENS) < lengths[:, None], ids, PADDING).astype(np.int32)


def _train() -> keras.Model:
    data = bbc_news(WORDS)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((TOKENS,), dtype="int32")
    mask = ops.cast(ops.not_equal(inputs, PADDING), "float32")
    added = (1.0 - ops.reshape(mask, (-1, 1, 1, TOKENS))) * MASKED
    x = layers.Embedding(WORDS, WIDTH)(inputs) + layers.Embedding(TOKENS, WIDTH)(np.arange(TOKENS)[None])
    for _ in range(BLOCKS):
        x = x + _attention(layers.LayerNormalization()(x), added)
        y = layers.Dense(4 * WIDTH, activation="gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(WIDTH)(y)
    weights = mask[..., None]
    x = ops.sum(layers.LayerNormalization()(x) * weights, 1) / ops.sum(weights, 1)  # mean over the words
    model = keras.Model(inputs, layers.Dense(5)(x), name="masked_transformer")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss, jit_compile=False)
    model.fit(_cut(data.train), data.train_labels, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    return model


def _attention(x: Any, added: Any) -> Any:
    """Self-attention of several heads over (n, 128, WIDTH); `added` (n, 1, 1, 128) goes to the scores."""
    depth = WIDTH // HEADS
    query, key, value = (ops.reshape(layers.Dense(WIDTH)(x), (-1, TOKENS, HEADS, depth)) for _ in range(3))
    query, key, value = (ops.transpose(part, (0, 2, 1, 3)) for part in (query, key, value))
    scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) / np.sqrt(depth).astype(np.float32) + added
    mixed = ops.transpose(ops.matmul(ops.softmax(scores), value), (0, 2, 1, 3))
    return layers.Dense(WIDTH)(ops.reshape(mixed, (-1, TOKENS, WIDTH)))
