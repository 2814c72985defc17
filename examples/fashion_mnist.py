"""Train a small MobileNet on Fashion-MNIST, quantize it with every recipe, print what each one costs.

`python examples/fashion_mnist.py [FOLDER]` takes about two minutes; the images come from an apt package.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from examples.datasets.fashion_mnist import fashion_mnist
from examples.shown import Row, compare, quiet

TRAIN, TEST = 20_000, 2_000  # images


def main(folder: str | Path = "fashion_mnist_output", epochs: int = 4) -> list[Row]:
    """Train, quantize, compare; returns the rows of the table."""
    data = fashion_mnist()
    train_images, test_images = (images[..., None].astype(np.float32) / 255 for images in (data.train, data.test))
    print("Training a small MobileNet on Fashion-MNIST ...", flush=True)
    with quiet():
        model = train(train_images[:TRAIN], data.train_labels[:TRAIN], epochs)
    print("Quantizing it with every recipe ...", flush=True)
    return compare(model, train_images[:100], test_images[:TEST], data.test_labels[:TEST], folder)


def train(images: np.ndarray, labels: np.ndarray, epochs: int) -> Any:
    """A Keras model from images (n, 28, 28, 1) to the logits of ten classes."""
    import keras
    from keras import layers

    def norm(x: Any) -> Any:
        return layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(x))

    keras.utils.set_random_seed(0)
    inputs = keras.Input((28, 28, 1))
    x = norm(layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False)(inputs))
    for channels, stride in ((64, 1), (128, 2), (128, 1)):
        x = norm(layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(x))
        x = norm(layers.Conv2D(channels, 1, use_bias=False)(x))
    outputs = layers.Dense(10)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs, name="fashion_mnist")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate = keras.optimizers.schedules.CosineDecay(4e-3, epochs * len(images) // 64)
    model.compile(keras.optimizers.Adam(rate), loss, jit_compile=False)
    model.fit(images, labels, batch_size=64, epochs=epochs, verbose=0)
    return model


if __name__ == "__main__":
    main(*sys.argv[1:2])
