"""Train a small CNN on scikit-learn's 8x8 digits, quantize it with every recipe, print what each one costs.

`python examples/digits.py [FOLDER]` takes a minute or two and saves the files in FOLDER (demo_output).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from examples.shown import Row, compare, quiet

TEST = 500  # of 1,797 images


def main(folder: str | Path = "demo_output", epochs: int = 20) -> list[Row]:
    """Train, quantize, compare; returns the rows of the table."""
    images, labels = digits()
    print("Training a small CNN on 8x8 digits ...", flush=True)
    with quiet():
        model = train(images[TEST:], labels[TEST:], epochs)
    print("Quantizing it with every recipe ...", flush=True)
    return compare(model, images[TEST : TEST + 100], images[:TEST], labels[:TEST], folder)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images (1797, 8, 8, 1) from 0 to 1 and their labels (1797,), in an order of no meaning."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    return (images[order].reshape(-1, 8, 8, 1) / 16).astype(np.float32), labels[order].astype(np.int64)


def train(images: np.ndarray, labels: np.ndarray, epochs: int) -> Any:
    """A Keras model from images (n, 8, 8, 1) to the logits of ten digits."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ],
        name="digits",
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss, jit_compile=False)
    model.fit(images, labels, batch_size=32, epochs=epochs, verbose=0)
    return model


if __name__ == "__main__":
    main(*sys.argv[1:2])
