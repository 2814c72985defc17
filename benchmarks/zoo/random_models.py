"""Models of well-known shape with random weights and inputs: for time and size only, never accuracy.

Weights come from a fixed seed (Keras' global one, which this sets). Batch norm gets a random scale and shift, and as
statistics the true mean and variance of its inputs on random images, so that activations neither die out nor explode
and that folding it changes every weight.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from benchmarks.zoo.case import Case

SEED = 0
CALIBRATION, TEST = 100, 64  # samples
IMAGE = (224, 224, 3)
VOCABULARY, TOKENS, WIDTH, HEADS, BLOCKS, CLASSES = 8000, 128, 256, 4, 4, 10


def mobilenet_v2() -> Case:
    """MobileNetV2, 3.54M parameters, input (224, 224, 3)."""
    return _image_case("mobilenet_v2", keras.applications.MobileNetV2)


def resnet50() -> Case:
    """ResNet-50, 25.6M parameters, input (224, 224, 3)."""
    return _image_case("resnet50", keras.applications.ResNet50)


def encoder() -> Case:
    """Return a transformer encoder, 4 blocks 256 wide, 5.2M parameters, input (128,) int32 token ids."""
    keras.utils.set_random_seed(SEED)
    ids = keras.Input((TOKENS,), dtype="int32", name="ids")
    unit = keras.initializers.RandomNormal(stddev=1.0)  # as large as the positions, or they would drown the words
    x = layers.Embedding(VOCABULARY, WIDTH, embeddings_initializer=unit, name="words")(ids)
    x = layers.LayerNormalization(epsilon=1e-6, name="words_norm")(x + _positions())
    for index in range(BLOCKS):
        x = _encoder_block(x, f"block{index}")
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    model = keras.Model(ids, layers.Dense(CLASSES, name="head")(x), name="encoder")
    model.compile(jit_compile=False)
    samples = np.random.default_rng(SEED).integers(0, VOCABULARY, (CALIBRATION + TEST, TOKENS), np.int32)
    return Case("encoder", model, samples[:CALIBRATION], samples[CALIBRATION:], None, CLASSES)


def _image_case(name: str, architecture: Any) -> Case:
    """Return a keras.applications classifier on images of uniform noise in -1 .. 1."""
    keras.utils.set_random_seed(SEED)
    rng = np.random.default_rng(SEED)
    image = keras.Input(IMAGE, name="image")
    model = architecture(input_tensor=image, weights=None, classifier_activation=None, name=name)
    samples = rng.uniform(-1, 1, (CALIBRATION + TEST, *IMAGE)).astype(np.float32)
    _randomize_batch_norm(model, samples[:8], rng)
    model.compile(jit_compile=False)
    return Case(name, model, samples[:CALIBRATION], samples[CALIBRATION:], None, 1000)


def _randomize_batch_norm(model: keras.Model, samples: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Random scale and shift, then the statistics of one pass over `samples`."""
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.gamma.assign(rng.uniform(0.5, 1.5, norm.gamma.shape))
        norm.beta.assign(rng.normal(0, 0.2, norm.beta.shape))
        norm.momentum = 0.0  # a pass in training mode replaces the statistics
    model(samples, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _positions() -> NDArray[np.float32]:
    """Sines and cosines of the token's position (1, 128, 256), as in Attention Is All You Need, section 3.5."""
    angle = np.arange(TOKENS)[:, None] / 10000 ** (np.arange(WIDTH // 2) / (WIDTH // 2))
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)[None].astype(np.float32)


def _encoder_block(x: Any, name: str) -> Any:
    """Self-attention and a two-layer network (4x wide, gelu), each added to its input and normalized."""
    attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name=f"{name}_attention")
    attended = layers.Add(name=f"{name}_attention_add")([x, attention(x, x)])
    x = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_attention_norm")(attended)
    y = layers.Dense(4 * WIDTH, activation="gelu", name=f"{name}_expand")(x)
    y = layers.Dense(WIDTH, name=f"{name}_project")(y)
    return layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(layers.Add(name=f"{name}_add")([x, y]))
