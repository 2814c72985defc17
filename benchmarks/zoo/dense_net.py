"""A network of dense layers alone: the pixels of Fashion-MNIST, 256 and 128 hidden units."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from benchmarks.zoo.case import Case
from benchmarks.zoo.trained import trained
from examples.datasets.fashion_mnist import fashion_mnist

CALIBRATION, EPOCHS, BATCH, WIDTHS = 512, 3, 64, (256, 128)


def dense_net() -> Case:
    """Return a network of three dense layers, input (672,) of 0 .. 1: the middle 24 rows of an image; ten logits."""
    data = fashion_mnist()
    return Case(
        "dense_net",
        trained("dense_net", _train),
        _flat(data.train[:CALIBRATION]),
        _flat(data.test),
        data.test_labels,
        10,
    )


def _flat(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images[:, 2:-2].reshape(len(images), -1).astype(np.float32) / np.float32(255)


def _train() -> keras.Model:
    data = fashion_mnist()
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((672,))  # a multiple of 32: litert-quantizer refuses other numbers of inputs in blocks
    for width in WIDTHS:
        x = layers.Dense(width, activation="relu")(x)
    model = keras.Model(inputs, layers.Dense(10)(x), name="dense_net")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False)
    model.fit(_flat(data.train), data.train_labels, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    return model
