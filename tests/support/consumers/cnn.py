"""A small network, or a part of it, with weights spread like trained ones: channels differ tenfold in scale."""

from collections.abc import Sequence

import numpy as np

from support.graphs import CONV, DENSE, RELU
from tfq_converters.graph import Graph, Op, Options, Signature, Subgraph, Tensor

LAYERS = ("conv", "depthwise", "pointwise", "pool", "dense")
IMAGE = (1, 13, 11, 3)
FEATURES = (1, 192)  # of a network that is dense alone: enough weights to be worth float16
CHANNELS = {"conv": 9, "pointwise": 14, "dense": 6}  # of the outputs


def network(layers: Sequence[str] = LAYERS, shape: tuple[int, ...] = IMAGE, seed: int = 0) -> Graph:
    """A chain: conv 3x3 stride 2, depthwise 3x3, conv 1x1 (all with ReLU), mean over the image, dense to logits.

    No softmax, whose int16 kernels are not comparable to a step: LiteRT reads a table, OpenVINO computes in float.
    """
    rng = np.random.default_rng(seed)
    tensors = [Tensor("input", shape, "float32")]
    ops = []
    for layer in layers:
        source = len(tensors) - 1
        given = tensors[source].shape
        axes = [Tensor("axes", (2,), "int32", data=np.array([1, 2], np.int32))]
        constants = axes if layer == "pool" else _weights(layer, given, rng)
        tensors += [*constants, Tensor(layer, _output(layer, given), "float32")]
        slots = (source, *range(source + 1, len(tensors) - 1))
        ops.append(Op(_CODES[layer], slots, (len(tensors) - 1,), _options(layer), layer=layer))
    last = len(tensors) - 1
    signature = Signature("serving_default", 0, (("input", 0),), (("output", last),))
    return Graph((Subgraph("main", tuple(tensors), tuple(ops), (0,), (last,)),), (signature,))


def samples(count: int, shape: tuple[int, ...] = IMAGE, seed: int = 1) -> np.ndarray:
    """Inputs, [count, ...]."""
    return np.random.default_rng(seed).normal(size=(count, *shape[1:])).astype(np.float32)


_CODES = {
    "conv": "CONV_2D",
    "depthwise": "DEPTHWISE_CONV_2D",
    "pointwise": "CONV_2D",
    "pool": "MEAN",
    "dense": "FULLY_CONNECTED",
}


def _weights(layer: str, given: tuple[int, ...], rng: np.random.Generator) -> list[Tensor]:
    """Kernel and bias."""
    inputs = given[-1]
    outputs = CHANNELS.get(layer, inputs)
    shape = {
        "conv": (outputs, 3, 3, inputs),
        "depthwise": (1, 3, 3, outputs),
        "pointwise": (outputs, 1, 1, inputs),
        "dense": (outputs, inputs),
    }[layer]
    kernel = rng.normal(size=shape) * np.sqrt(2 * outputs / np.prod(shape))  # He et al. 2015
    each = np.exp(rng.uniform(-1.15, 1.15, outputs))
    kernel *= each if layer == "depthwise" else each.reshape(-1, *(1,) * (len(shape) - 1))
    bias = rng.normal(size=outputs) * 0.2
    named = {"kernel": kernel, "bias": bias}
    return [Tensor(f"{layer}/{k}", v.shape, "float32", data=v.astype(np.float32)) for k, v in named.items()]


def _output(layer: str, given: tuple[int, ...]) -> tuple[int, ...]:
    if layer == "conv":
        return (given[0], -(-given[1] // 2), -(-given[2] // 2), CHANNELS[layer])
    if layer == "pool":
        return (given[0], given[3])
    return (*given[:-1], CHANNELS.get(layer, given[-1]))


def _options(layer: str) -> Options:
    if layer == "pool":
        return Options("ReducerOptions", {"keepDims": False})
    if layer == "dense":
        return Options("FullyConnectedOptions", DENSE)
    conv = CONV | {"fusedActivationFunction": RELU}
    if layer == "depthwise":
        del conv["quantizedBiasType"]
        return Options("DepthwiseConv2DOptions", conv | {"depthMultiplier": 1})
    stride = 2 if layer == "conv" else 1
    return Options("Conv2DOptions", conv | {"strideW": stride, "strideH": stride})
