"""Train a small network on handwritten digits, make it smaller in several ways, print what each one costs.

`python examples/demo.py [FOLDER]` takes about a minute and saves files and reports in FOLDER (demo_output). Nearly all
weights of the network are in 1x1 convolutions, which have fast kernels for 4 bits, as those of MobileNets are. For
every recipe on a small CNN, see examples/digits.py.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import tfq_fine as tfq
from examples.digits import TEST, digits
from examples.shown import Row, measured, quiet, show


@dataclass(frozen=True)
class Step:
    """One way to make the network smaller: a line of the table."""

    name: str  # of the line, and of the files
    recipe: str  # of `quantize`; "" for `search`
    options: tuple[tuple[str, Any], ...]
    note: str


STEPS = (
    Step("full_int8", "full_int8", (), "8 bits throughout: the usual choice"),
    Step("w4_rounded", "full_w4a8", (("quality", "fast"),), "4-bit weights in fast kernels, clipped and rounded"),
    Step("w4_fitted", "full_w4a8", (), "the same, fitted to the data (the default)"),
    Step("w2_rounded", "full_w2a8", (("quality", "fast"), ("prefer", "size")), "2 bits, clipped and rounded"),
    Step("w2_fitted", "full_w2a8", (("prefer", "size"),), "the same, fitted to the data"),
    Step("searched", "", (("max_bytes", "12%"),), "bits chosen layer by layer within 12 % of the bytes"),
)


def main(folder: str | Path = "demo_output", epochs: int = 12) -> list[Row]:
    """Train, quantize, verify; prints and returns the rows of the table."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    images, labels = digits()
    print("Training a small network on 8x8 digits ...", flush=True)
    with quiet():
        model = train(images[TEST:], labels[TEST:], epochs)
    rows = []
    for step in STEPS:
        print(f"{step.name}: {step.note} ...", flush=True)
        with quiet():
            result = made(model, images[TEST : TEST + 200], step)
            rows.append(measured(model, result, step.name, images[:TEST], labels[:TEST], place))
    show(rows, place)
    print(f"Open the report of w4_fitted in a browser: {(place / 'w4_fitted.html').resolve().as_uri()}")
    return rows


def made(model: Any, samples: np.ndarray, step: Step) -> Any:
    """The result of one step."""
    if not step.recipe:
        return tfq.search(model, samples, **dict(step.options))
    return tfq.quantize(model, step.recipe, samples, **dict(step.options))


def train(images: np.ndarray, labels: np.ndarray, epochs: int) -> Any:
    """A Keras model from images (n, 8, 8, 1) to the logits of ten digits: depthwise and 1x1 convolutions."""
    import keras
    from keras import layers

    def norm(x: Any) -> Any:
        return layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(x))

    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    x = norm(layers.Conv2D(32, 3, padding="same", use_bias=False, name="stem")(inputs))
    for index, (channels, stride) in enumerate(((128, 1), (192, 2), (192, 1), (256, 2))):
        x = norm(layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False, name=f"depthwise_{index}")(x))
        x = norm(layers.Conv2D(channels, 1, use_bias=False, name=f"pointwise_{index}")(x))
    outputs = layers.Dense(10, name="head")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs, name="digits")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate = keras.optimizers.schedules.CosineDecay(4e-3, epochs * len(images) // 32)
    model.compile(keras.optimizers.Adam(rate), loss, jit_compile=False)
    model.fit(images, labels, batch_size=32, epochs=epochs, verbose=0)
    return model


if __name__ == "__main__":
    main(*sys.argv[1:2])
