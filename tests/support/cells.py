"""Layers of every kind that has weights, each as a float graph with one copy for each way to quantize it."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import layers

from support import numpy_layers as plain
from support.keras_layer_models import randomized
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import ABSENT, Graph, Op, Subgraph, Tensor
from tfq_converters.reading.reader import read_model
from tfq_fine.request.granularity import Blocks, ChannelGroups, Granularity, PerChannel, PerTensor
from tfq_fine.request.recipe import Recipe, Rule
from tfq_fine.request.specs import ActivationSpec, OpSpec, WeightSpec, granularity_name

RELU6_TOP = 6.0


def _same(y: np.ndarray) -> np.ndarray:
    return y


def _relu(y: np.ndarray) -> np.ndarray:
    return np.maximum(y, 0)


def _relu6(y: np.ndarray) -> np.ndarray:
    return np.clip(y, 0, RELU6_TOP)


@dataclass(frozen=True)
class Kind:
    """A layer: how Keras builds it, and how numpy computes it over a weight in the layout of the file."""

    name: str
    code: str
    shape: tuple[int, ...]  # of its input, without the batch
    layer: Callable[[], Any]
    compute: Callable[[np.ndarray, np.ndarray], np.ndarray]
    channel: int  # axis of the weight
    inputs: int | None
    inputs_of: int  # inputs of one output channel: the K of Blocks(K)
    activation: Callable[[np.ndarray], np.ndarray] = _same
    batch: int | None = None  # a free one is written with a bias that stands alone where ranks are above two


# Sides are coprime, and no block size but K divides K.
KINDS = (
    Kind("dense", "FULLY_CONNECTED", (70,), lambda: layers.Dense(11, "relu"), plain.dense, 0, 1, 70, _relu),
    Kind("dense_rank_three", "FULLY_CONNECTED", (3, 70), lambda: layers.Dense(11), plain.dense, 0, 1, 70, batch=2),
    Kind(
        "conv", "CONV_2D", (5, 7, 35), lambda: layers.Conv2D(11, 3, padding="same"), plain.convolution, 0, 3, 35,
    ),
    Kind(
        "pointwise", "CONV_2D", (5, 7, 70), lambda: layers.Conv2D(11, 1, activation="relu6"), plain.convolution,
        0, 3, 70, _relu6,
    ),
    Kind(
        "pointwise_strided", "CONV_2D", (5, 7, 70), lambda: layers.Conv2D(11, 1, strides=2),
        lambda x, w: plain.convolution(x, w, 2), 0, 3, 70,
    ),
    Kind(
        "grouped", "CONV_2D", (5, 7, 105), lambda: layers.Conv2D(9, 3, strides=2, padding="same", groups=3),
        lambda x, w: plain.convolution(x, w, 2, groups=3), 0, 3, 35,
    ),
    Kind(
        "depthwise", "DEPTHWISE_CONV_2D", (5, 7, 11), lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        lambda x, w: plain.depthwise(x, w, 2), 3, None, 1,
    ),
    Kind(
        "transposed", "TRANSPOSE_CONV", (5, 3, 35),
        lambda: layers.Conv2DTranspose(11, 3, strides=2, padding="same", activation="relu"),
        lambda x, w: plain.transposed(x, w, 2), 0, 3, 35, _relu,
    ),
    Kind(
        "einsum", "BATCH_MATMUL", (3, 70),
        lambda: layers.EinsumDense("abc,bcd->abd", output_shape=(3, 11)), plain.batch_matmul, 2, 1, 70,
    ),
    Kind("embedding", "GATHER", (7,), lambda: layers.Embedding(13, 70), plain.lookup, 0, 1, 70),
    Kind(
        "conv_three_dimensions", "CONV_3D", (4, 5, 3, 35), lambda: layers.Conv3D(7, 2, use_bias=False),
        lambda x, w: plain.convolution(x, w.transpose(4, 0, 1, 2, 3), same=False), 4, 3, 35,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One way to quantize a layer."""

    spec: OpSpec

    @property
    def name(self) -> str:
        """Of the copy of the layer that is quantized like this; no two are equal, and none ends in a number."""
        weights, activations = self.spec.weights, self.spec.activations
        assert weights is not None
        kind = granularity_name(weights.granularity).replace(" ", "_").replace("-", "_")
        bits = f"a{activations.bits}_" if activations else ""
        return f"{self.spec.mode}_{bits}w{weights.bits}_{kind}_{'symmetric' if weights.symmetric else 'asymmetric'}"


def granularities(inputs: int) -> tuple[Granularity, ...]:
    return PerTensor(), PerChannel(), ChannelGroups(3), Blocks(8), Blocks(32), Blocks(20), Blocks(inputs)


def _ways() -> tuple[tuple[str, ActivationSpec | None, bool], ...]:
    """(mode, activations, symmetric)."""
    return (
        ("dynamic", None, True),
        ("weight_only", None, True),
        ("weight_only", None, False),
        ("integer", ActivationSpec(8), True),
        ("integer", ActivationSpec(16), True),
    )


def cells(kind: Kind) -> list[Cell]:
    """8, 4 and 2 bits at every granularity in every mode; 3, 5 and 6 bits at one granularity each."""
    every = list(itertools.product((8, 4, 2), granularities(kind.inputs_of)))
    every += [(3, PerChannel()), (5, ChannelGroups(3)), (6, Blocks(20))]
    found = [
        Cell(OpSpec(mode, WeightSpec(bits, granularity, symmetric, "round_to_nearest", False), activations))
        for (mode, activations, symmetric), (bits, granularity) in itertools.product(_ways(), every)
    ]
    return list({cell.name: cell for cell in found}.values())  # Blocks(K) may be one of the others


@cache
def float_graph(kind: Kind) -> Graph:
    """What the converter makes of the layer alone; converted once."""
    keras.utils.set_random_seed(0)
    given = layers.Input(kind.shape, kind.batch, dtype="int32" if kind.code == "GATHER" else "float32")
    model = keras.Model(given, kind.layer()(given))
    return read_model(randomized(model), check=False).graph


def linear_op(graph: Graph, code: str) -> Op:
    """The first operator of that code that has weights."""
    main = graph.main
    return next(op for op in main.ops if op.code == code and any(_is_weight(main.tensors[t]) for t in op.inputs))


def _is_weight(tensor: Tensor) -> bool:
    return tensor.data is not None and tensor.dtype == "float32" and tensor.data.ndim > 1


def weight_of(kind: Kind, graph: Graph, n: int) -> np.ndarray:
    """The float weight of copy `n`."""
    op = [op for op in graph.main.ops if op.code == kind.code][n]
    (found,) = (graph.main.tensors[t].data for t in op.inputs if t != ABSENT and _is_weight(graph.main.tensors[t]))
    assert found is not None
    return found


def bias_of(kind: Kind, graph: Graph, n: int) -> np.ndarray | None:
    """The float bias of copy `n`; None where it has none, or zeros."""
    op = [op for op in graph.main.ops if op.code == kind.code][n]
    flat = [graph.main.tensors[t] for t in op.inputs if t != ABSENT and graph.main.tensors[t].dtype == "float32"]
    return next((tensor.data for tensor in flat if tensor.data is not None and tensor.data.ndim == 1), None)


def copies(kind: Kind, names: Sequence[str]) -> Graph:
    """The layer once for each of `names`, each with weights of its own, over one input."""
    single = float_graph(kind).main
    (given,) = single.inputs
    tensors: list[Tensor] = [replace(single.tensors[given], name="x")]
    ops: list[Op] = []
    outputs = []
    for n, name in enumerate(names):
        rng = np.random.default_rng(n)
        moved = {given: 0, ABSENT: ABSENT}
        for t, tensor in enumerate(single.tensors):
            if t != given:
                moved[t] = len(tensors)
                tensors.append(_renewed(tensor, f"net/{name}/t{t}x", rng))
        for op in single.ops:
            places = {side: tuple(moved[t] for t in getattr(op, side)) for side in ("inputs", "outputs")}
            ops.append(replace(op, layer=name, **places))
        outputs.append(moved[single.outputs[0]])
    return Graph((Subgraph("main", tuple(tensors), tuple(ops), (0,), tuple(outputs)),))


def _renewed(tensor: Tensor, name: str, rng: np.random.Generator) -> Tensor:
    """A tensor of the same kind; a weight or a bias gets other values, whose size differs along every axis."""
    if tensor.data is None or tensor.dtype != "float32" or not tensor.data.ndim:
        return replace(tensor, name=name)
    data = rng.normal(size=tensor.data.shape)
    for axis, size in enumerate(data.shape if data.ndim > 1 else ()):
        data *= np.exp(rng.normal(size=size) / 2).reshape([-1 if a == axis else 1 for a in range(data.ndim)])
    return replace(tensor, name=name, data=data.astype(np.float32))


def inputs(kind: Kind, count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind.code == "GATHER":
        return rng.integers(0, 13, (count, *kind.shape)).astype(np.int32)
    return rng.normal(size=(count, *kind.shape)).astype(np.float32)


def model_and_recipe(kind: Kind, requested: Sequence[Cell]) -> tuple[bytes, Recipe]:
    """A float `.tflite` with one layer for each cell, and the rigid recipe that asks for them."""
    names = [cell.name for cell in requested]
    rules = tuple(Rule(cell.spec, layer=cell.name) for cell in requested)
    return write(copies(kind, names)), Recipe("cells", None, rules)


# What quantized numbers are, once more.


def _blocks(granularity: Granularity, shape: tuple[int, ...], channel: int, inputs: int | None, window: bool):  # type: ignore[no-untyped-def]
    """The slices of a weight that share one scale."""
    whole = [[slice(size)] for size in shape]

    def runs(axis: int, size: int) -> list[slice]:
        return [slice(k, min(k + size, shape[axis])) for k in range(0, shape[axis], size)]

    if not isinstance(granularity, PerTensor):
        whole[channel] = runs(channel, granularity.size if isinstance(granularity, ChannelGroups) else 1)
    if isinstance(granularity, Blocks):
        assert inputs is not None
        whole = [runs(axis, 1) if axis != channel and not window else part for axis, part in enumerate(whole)]
        whole[inputs] = runs(inputs, granularity.size)
    return itertools.product(*whole)


@dataclass(frozen=True)
class Grid:
    """The scale and the zero point of every value of a weight, and the codes that there are."""

    scale: np.ndarray
    zero_point: np.ndarray
    lowest: int
    highest: int

    def nearest(self, weight: np.ndarray) -> np.ndarray:
        codes = np.clip(np.rint(weight / self.scale) + self.zero_point, self.lowest, self.highest)
        return (codes - self.zero_point) * self.scale


def grid(
    weight: np.ndarray,
    spec: WeightSpec,
    channel: int,
    inputs: int | None,
    whole_window: bool = False,
    stored: Callable[[float], np.floating] = np.float32,
) -> Grid:
    """The grid over the full extent of each block, in float64 but for the storage of the scales.

    Args:
        weight: float values.
        spec: bits, granularity, symmetry.
        channel: axis of the output channels.
        inputs: axis that blocks cut.
        whole_window: whether blocks share a scale over the window.
        stored: the type that holds the scales.
    """
    scale, zero_point = np.empty(weight.shape), np.zeros(weight.shape)
    half = 2 ** (spec.bits - 1)
    for block in _blocks(spec.granularity, weight.shape, channel, inputs, whole_window):
        values = weight[block].astype(np.float64)
        low, high = min(values.min(), 0.0), max(values.max(), 0.0)
        step = max(-low, high) / (half - 1) if spec.symmetric else (high - low) / (2 * half - 1)
        step = float(stored(step))
        scale[block] = step
        if not spec.symmetric:
            zero_point[block] = np.rint(-half - low / step)
    return Grid(scale, zero_point, -half + spec.symmetric, half - 1)
