"""Small float graphs made by hand: no framework, no conversion."""

from dataclasses import replace
from typing import Any

import numpy as np

from tfq_converters.flatbuffer.reading import read
from tfq_converters.graph import Graph, Op, Options, Signature, Subgraph, Tensor

CONV = {
    "padding": 0,
    "strideW": 1,
    "strideH": 1,
    "fusedActivationFunction": 0,
    "dilationWFactor": 1,
    "dilationHFactor": 1,
    "quantizedBiasType": 0,
}
DENSE = {
    "fusedActivationFunction": 0,
    "weightsFormat": 0,
    "keepNumDims": False,
    "asymmetricQuantizeInputs": False,
    "quantizedBiasType": 0,
}
RELU = 1


def _constant(name: str, data: np.ndarray) -> Tensor:
    return Tensor(name, data.shape, data.dtype.name, data=data)


def small_cnn(seed: int = 0, bias: float = 0.5, weight_scale: np.ndarray | float = 1.0) -> Graph:
    """conv 3x3 (3 -> 7) ReLU, depthwise 3x3, global mean, dense (7 -> 5), softmax, on images of 9 x 11."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    tensors = (
        Tensor("images", (1, 9, 11, 3), "float32"),
        _constant("conv/kernel", normal(7, 3, 3, 3) * np.float32(weight_scale)),
        _constant("conv/bias", normal(7) * np.float32(bias)),
        Tensor("conv", (1, 9, 11, 7), "float32"),
        _constant("depthwise/kernel", normal(1, 3, 3, 7)),
        _constant("depthwise/bias", normal(7) * np.float32(bias)),
        Tensor("depthwise", (1, 9, 11, 7), "float32"),
        _constant("axes", np.array([1, 2], np.int32)),
        Tensor("pooled", (1, 7), "float32"),
        _constant("dense/kernel", normal(5, 7)),
        _constant("dense/bias", normal(5)),
        Tensor("logits", (1, 5), "float32"),
        Tensor("scores", (1, 5), "float32"),
    )
    conv = Options("Conv2DOptions", CONV | {"fusedActivationFunction": RELU})
    depthwise = {k: v for k, v in CONV.items() if k != "quantizedBiasType"} | {"depthMultiplier": 1}
    ops = (
        Op("CONV_2D", (0, 1, 2), (3,), conv, layer="conv"),
        Op("DEPTHWISE_CONV_2D", (3, 4, 5), (6,), Options("DepthwiseConv2DOptions", depthwise), layer="depthwise"),
        Op("MEAN", (6, 7), (8,), Options("ReducerOptions", {"keepDims": False}), layer="pool"),
        Op("FULLY_CONNECTED", (8, 9, 10), (11,), Options("FullyConnectedOptions", DENSE), layer="dense"),
        Op("SOFTMAX", (11,), (12,), Options("SoftmaxOptions", {"beta": 1.0}), layer="softmax"),
    )
    signature = Signature("serving_default", 0, (("images", 0),), (("scores", 12),))
    return Graph((Subgraph("main", tensors, ops, (0,), (12,)),), (signature,))


def wide_cnn() -> Graph:
    """The small CNN with more channels, whose layers are of unlike size and sensitivity."""
    graph, rng, wide = small_cnn(), np.random.default_rng(3), 48  # the weights take most of the file
    shapes = {1: (wide, 3, 3, 3), 2: (wide,), 4: (1, 3, 3, wide), 5: (wide,), 9: (61, wide), 10: (61,)}
    activations = {3: (1, 9, 11, wide), 6: (1, 9, 11, wide), 8: (1, wide), 11: (1, 61), 12: (1, 61)}
    tensors = list(graph.main.tensors)
    for t, shape in shapes.items():
        data = rng.normal(size=shape).astype(np.float32) * np.float32(0.3)
        tensors[t] = replace(tensors[t], shape=shape, data=data)
    for t, shape in activations.items():
        tensors[t] = replace(tensors[t], shape=shape)
    return replace(graph, subgraphs=(replace(graph.main, tensors=tuple(tensors)),))


def images(count: int, seed: int = 0) -> np.ndarray:
    """Float images for `small_cnn`, [count, 9, 11, 3]."""
    return np.random.default_rng(seed).normal(size=(count, 9, 11, 3)).astype(np.float32)


def codes_in_file(result: Any) -> dict[str, np.ndarray]:
    """Layer -> codes of its quantized kernel, read from the bytes of the file; operators have no layers there."""
    held = read(result.content).main
    found = {}
    for written, op in zip(result.graph.main.ops, held.ops, strict=True):
        assert written.code == op.code
        for tensor in (held.tensors[t] for t in op.inputs if t >= 0):
            if tensor.data is not None and tensor.dtype in ("int8", "int4", "int2") and tensor.data.ndim > 1:
                found[written.layer] = tensor.data
    return found
