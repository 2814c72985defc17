"""A small audio network with its log-mel front end inside the graph, on tones of eight pitches in noise.

Loudness differs by 50 dB, so that the logarithm of the power spectrum reaches over many orders of magnitude: 8 bits of
the power spectrum round all quiet tones to 0.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from benchmarks.zoo.case import Case
from benchmarks.zoo.trained import trained

RATE, LENGTH = 4000, 2000  # samples a second, samples
WINDOW, HOP, BANDS = 128, 64, 24
CLASSES, TRAIN, CALIBRATION, TEST, EPOCHS = 8, 3000, 100, 1000, 8


def tones() -> Case:
    """Two convolutions over log-mel spectra of sounds (2000,), softmax output."""
    calibration, _ = sounds(CALIBRATION, seed=1)
    test, labels = sounds(TEST, seed=2)
    return Case("tones", trained("tones", _train), calibration, test, labels, CLASSES)


def sounds(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return (sounds [count, LENGTH], pitches [count])."""
    rng = np.random.default_rng(seed)
    pitch = rng.integers(0, CLASSES, count)
    frequency = (200 * 1.3**pitch * rng.uniform(0.97, 1.03, count))[:, None]
    seconds = np.arange(LENGTH) / RATE
    decay = np.exp(-seconds * rng.uniform(0, 6, (count, 1)))
    has_base = rng.uniform(0, 1, (count, 1)) > 0.3  # the others are told by their first overtone alone
    wave = has_base * decay * np.sin(2 * np.pi * frequency * seconds + rng.uniform(0, 6, (count, 1)))
    wave += 0.5 * np.sin(4 * np.pi * frequency * seconds)
    wave += rng.normal(size=wave.shape) * 10 ** rng.uniform(-1.5, 0.3, (count, 1))
    return (wave * 10 ** rng.uniform(-2.5, 0, (count, 1))).astype(np.float32), pitch


def _train() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((LENGTH,))
    x = layers.Reshape((LENGTH, 1))(inputs)
    bins = WINDOW // 2 + 1
    fixed = {"strides": HOP, "use_bias": False, "trainable": False}
    parts = [layers.Conv1D(bins, WINDOW, name=name, **fixed) for name in ("cosine", "sine")]
    power = layers.Add()([ops.square(part(x)) for part in parts])
    mel = layers.Dense(BANDS, use_bias=False, trainable=False, name="mel")
    x = layers.BatchNormalization()(ops.log(mel(power) + 1e-6))
    x = layers.MaxPooling1D()(layers.Conv1D(32, 3, activation="relu")(x))
    x = layers.GlobalAveragePooling1D()(layers.Conv1D(32, 3, activation="relu")(x))
    model = keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(x), name="tones")
    angle = 2 * np.pi * np.outer(np.arange(WINDOW), np.arange(bins)) / WINDOW
    for part, wave in zip(parts, (np.cos(angle), np.sin(angle)), strict=True):
        part.set_weights([(np.hanning(WINDOW)[:, None] * wave)[:, None, :]])
    mel.set_weights([_triangles(bins)])
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(*sounds(TRAIN, seed=0), epochs=EPOCHS, verbose=0)
    return model


def _triangles(bins: int) -> NDArray[np.float64]:
    """Bands [bins, BANDS] whose widths grow geometrically."""
    edges, bin_ = np.geomspace(2, bins - 5, BANDS + 2), np.arange(bins)[:, None]
    rising = (bin_ - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bin_) / np.diff(edges)[1:]
    return np.maximum(0, np.minimum(rising, falling))
