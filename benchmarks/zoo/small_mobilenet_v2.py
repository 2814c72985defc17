"""A small MobileNetV2: inverted residuals of four times the width, ReLU6, batch norm, on Fashion-MNIST."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from benchmarks.zoo.case import MANY, Case
from benchmarks.zoo.trained import trained
from examples.datasets.fashion_mnist import fashion_mnist

EPOCHS, BATCH, EXPANSION = 1, 64, 4
BLOCKS = ((16, 1), (24, 2), (24, 1), (32, 2), (32, 1), (64, 1))  # channels, stride


def small_mobilenet_v2() -> Case:
    """Six inverted residual blocks, input (28, 28, 1) of 0 .. 1, logits of ten classes."""
    data = fashion_mnist()
    model = trained("small_mobilenet_v2", _train)
    return Case("small_mobilenet_v2", model, _scaled(data.train[:MANY]), _scaled(data.test), data.test_labels, 10)


def _scaled(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images[..., None].astype(np.float32) / np.float32(255)


def _train() -> keras.Model:
    data = fashion_mnist()
    keras.utils.set_random_seed(0)
    inputs = keras.Input((28, 28, 1))
    x = _clipped(layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(inputs))
    for channels, stride in BLOCKS:
        x = _block(x, channels, stride)
    x = layers.GlobalAveragePooling2D()(_clipped(layers.Conv2D(128, 1, use_bias=False)(x)))
    model = keras.Model(inputs, layers.Dense(10)(x), name="small_mobilenet_v2")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate = keras.optimizers.schedules.CosineDecay(4e-3, EPOCHS * len(data.train) // BATCH)
    model.compile(keras.optimizers.Adam(rate), loss, jit_compile=False)
    model.fit(_scaled(data.train), data.train_labels, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    return model


def _block(x: Any, channels: int, stride: int) -> Any:
    wide = _clipped(layers.Conv2D(EXPANSION * x.shape[-1], 1, use_bias=False)(x))
    deep = _clipped(layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(wide))
    narrow = layers.BatchNormalization(momentum=0.9)(layers.Conv2D(channels, 1, use_bias=False)(deep))
    return layers.Add()([x, narrow]) if stride == 1 and x.shape[-1] == channels else narrow


def _clipped(x: Any) -> Any:
    return layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(x))
