"""A CNN like many first ones: raw 0 .. 255 images, convolution -> ReLU -> batch norm, pooling, dense layers.

The converter folds batch norm only into the operator before it, which is a ReLU here.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from benchmarks.zoo.case import Case
from benchmarks.zoo.cifar10 import cifar10
from benchmarks.zoo.trained import trained

CALIBRATION, EPOCHS, BATCH = 100, 4, 64


def raw_cnn() -> Case:
    """Six convolutions, input (32, 32, 3) of 0 .. 255, softmax output, CIFAR-10."""
    data = cifar10()
    calibration, test = (images.astype(np.float32) for images in (data.train[:CALIBRATION], data.test))
    return Case("raw_cnn", trained("raw_cnn", _train), calibration, test, data.test_labels, 10)


def _train() -> keras.Model:
    data = cifar10()
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((32, 32, 3))
    for channels in (16, 32, 64):
        for _ in range(2):
            x = layers.Conv2D(channels, 3, padding="same", activation="relu")(x)
            x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.MaxPooling2D()(x)
    x = layers.BatchNormalization(momentum=0.9)(layers.Dense(128, activation="relu")(layers.Flatten()(x)))
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x), name="raw_cnn")
    rate = keras.optimizers.schedules.CosineDecay(3e-3, EPOCHS * len(data.train) // BATCH)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(data.train.astype(np.float32), data.train_labels, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    return model
