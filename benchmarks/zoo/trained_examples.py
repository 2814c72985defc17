"""The models of `examples/`, trained for few epochs: small files, whose overhead outweighs the arithmetic."""

from __future__ import annotations

import numpy as np

from benchmarks.zoo.case import MANY, Case
from examples import digits as digits_example
from examples import fashion_mnist as fashion_mnist_example
from examples import text_transformer as text_example
from examples.datasets.bbc_news import bbc_news
from examples.datasets.fashion_mnist import fashion_mnist as fashion_mnist_data

CALIBRATION = 100  # samples of the train set


def digits(epochs: int = 5) -> Case:
    """Return a CNN of three convolutions, input (8, 8, 1)."""
    images, labels = digits_example.digits()
    train = images[digits_example.TEST :]
    model = digits_example.train(train, labels[digits_example.TEST :], epochs)
    test = images[: digits_example.TEST]
    return Case("digits", model, train[:CALIBRATION], test, labels[: digits_example.TEST], 10)


def fashion_mnist(epochs: int = 1) -> Case:
    """Return a small MobileNet, input (28, 28, 1)."""
    data = fashion_mnist_data()
    train, test = (images[..., None].astype(np.float32) / 255 for images in (data.train, data.test))
    count = fashion_mnist_example.TRAIN
    model = fashion_mnist_example.train(train[:count], data.train_labels[:count], epochs)
    return Case("fashion_mnist", model, train[:CALIBRATION], test, data.test_labels, 10)


def text_transformer(epochs: int = 2) -> Case:
    """Return a two-layer transformer, input (128,) word ids."""
    data = bbc_news(text_example.WORDS)
    model = text_example.train(data.train, data.train_labels, epochs)
    return Case("text_transformer", model, data.train[:MANY], data.test, data.test_labels, 5)
