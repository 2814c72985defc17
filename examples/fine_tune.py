"""Train a small MobileNetV2 on Fashion-MNIST, quantize it to few bits, win back by fine-tuning what that lost.

`python examples/fine_tune.py [FOLDER]` takes about ten minutes; the images come from an apt package.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import tfq_fine as tfq
from examples.datasets.fashion_mnist import fashion_mnist
from examples.shown import quiet

TRAIN, TEST = 60_000, 10_000  # images
RECIPES = ("full_w4a8", "full_w2a8")  # 2 bits in 1x1 convolutions and the head, 4 where no kernel takes 2


@dataclass(frozen=True)
class Row:
    """What a recipe makes of the model, before and after fine-tuning; accuracies in percent."""

    recipe: str
    float_accuracy: float
    post_training: float  # of the file without fine-tuning
    tuned_keras: float  # of the wrapped Keras model
    tuned_file: float  # of its file
    bytes: int

    @property
    def recovered(self) -> float:
        """Share of what post-training quantization lost that fine-tuning won back."""
        return (self.tuned_file - self.post_training) / max(self.float_accuracy - self.post_training, 1e-9)


def main(folder: str | Path = "fine_tune_output", epochs: int = 2, train: int = TRAIN, test: int = TEST) -> list[Row]:
    """Train, quantize, fine-tune one epoch, quantize again; prints and returns the rows of the table."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    data = fashion_mnist()
    images, held_out = (x[..., None].astype(np.float32) / 255 for x in (data.train[:train], data.test[:test]))
    labels, answers = data.train_labels[:train], data.test_labels[:test]
    print("Training a small MobileNetV2 on Fashion-MNIST ...", flush=True)
    with quiet():
        model = trained(mobilenet_v2(), images, labels, 4e-3, epochs)
    rows = []
    for name in RECIPES:
        print(f"{name}: quantizing, fine-tuning one epoch, quantizing again ...", flush=True)
        with quiet():
            plain = tfq.quantize(model, name, data=images[:200], prefer="size")
            wrapped = tfq.annotate(model, name, learned=True)
            tfq.calibrate(wrapped, images[:200])
            trained(wrapped, images, labels, 1e-3, 1)
            tuned = tfq.quantize(wrapped, data=images[:200])
        tuned.save(place / f"{name}.tflite")
        row = Row(
            name,
            keras_accuracy(model, held_out, answers),
            file_accuracy(model, plain, held_out, answers),
            keras_accuracy(wrapped, held_out, answers),
            file_accuracy(model, tuned, held_out, answers),
            len(tuned.content),
        )
        print(
            f"{name}: float {row.float_accuracy:.2f} %, post-training {row.post_training:.2f} %, fine-tuned "
            f"{row.tuned_file:.2f} % (in Keras {row.tuned_keras:.2f} %), {row.bytes:,} bytes",
            flush=True,
        )
        rows.append(row)
    (place / "numbers.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return rows


def mobilenet_v2() -> Any:
    """A Keras model from images (n, 28, 28, 1) to the logits of ten classes: inverted residuals, 90,000 parameters."""
    import keras
    from keras import layers

    def norm(x: Any, active: bool = True) -> Any:
        x = layers.BatchNormalization(momentum=0.9)(x)
        return layers.ReLU(6.0)(x) if active else x

    keras.utils.set_random_seed(0)
    inputs = keras.Input((28, 28, 1))
    x = norm(layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="stem")(inputs))
    for channels, stride, repeats in ((16, 1, 1), (24, 2, 2), (32, 1, 2), (64, 2, 2)):
        for index in range(repeats):
            first = stride if index == 0 else 1
            y = norm(layers.Conv2D(4 * x.shape[-1], 1, use_bias=False)(x))
            y = norm(layers.DepthwiseConv2D(3, first, padding="same", use_bias=False)(y))
            y = norm(layers.Conv2D(channels, 1, use_bias=False)(y), active=False)
            x = layers.Add()([x, y]) if y.shape == x.shape else y
    x = norm(layers.Conv2D(128, 1, use_bias=False)(x))
    outputs = layers.Dense(10, name="head")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, outputs, name="fashion_mobilenet_v2")


def trained(model: Any, images: np.ndarray, labels: np.ndarray, rate: float, epochs: int) -> Any:
    """`model` itself, fitted with Adam and a rate that falls as a cosine."""
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    falling = keras.optimizers.schedules.CosineDecay(rate, epochs * -(-len(images) // 64))
    model.compile(keras.optimizers.Adam(falling), loss, jit_compile=False)
    model.fit(images, labels, batch_size=64, epochs=epochs, verbose=0)
    return model


def keras_accuracy(model: Any, images: np.ndarray, labels: np.ndarray) -> float:
    """Top-1 of a Keras model in percent."""
    return 100 * float(np.mean(model.predict(images, batch_size=256, verbose=0).argmax(-1) == labels))


def file_accuracy(model: Any, result: Any, images: np.ndarray, labels: np.ndarray) -> float:
    """Top-1 of an emitted file in percent."""
    task = tfq.verify(model, result, data=images, labels=labels, metric="top1").task
    assert task is not None  # since there are labels
    return 100 * task.quantized_value


if __name__ == "__main__":
    main(*sys.argv[1:2])
