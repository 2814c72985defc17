"""Small Keras models to wrap, with data: sides are coprime, so that a wrong axis shows."""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import layers

import tfq_fine as tfq
from tfq_converters.runtime.runner import Runner

RECURRENT = ("LSTM", "GRU", "GRU-before", "LSTM-by-gates", "SimpleRNN", "Bidirectional", "Bidirectional-before")

# name -> (shape of the input, the layer, how many times the layer takes it)
LAYERS: dict[str, tuple[tuple[int, ...], Callable[[], Any], int]] = {
    "Dense": ((7,), lambda: layers.Dense(5), 1),
    "EinsumDense": ((6, 12), lambda: layers.EinsumDense("abc,cde->abde", (None, 3, 5), bias_axes="de"), 1),
    "Conv1D": ((11, 5), lambda: layers.Conv1D(7, 3, padding="causal", dilation_rate=2), 1),
    "Conv2D": ((11, 9, 5), lambda: layers.Conv2D(7, 3, strides=2, padding="same"), 1),
    "Conv2D-grouped": ((11, 9, 6), lambda: layers.Conv2D(8, 3, groups=2), 1),
    "Conv2D-dilated": ((11, 9, 5), lambda: layers.Conv2D(7, 3, dilation_rate=(3, 2), padding="same"), 1),
    "Conv3D": ((5, 6, 7, 3), lambda: layers.Conv3D(7, 2), 1),
    "DepthwiseConv1D": ((11, 5), lambda: layers.DepthwiseConv1D(3, depth_multiplier=2), 1),
    "DepthwiseConv1D-dilated": ((11, 5), lambda: layers.DepthwiseConv1D(3, dilation_rate=2, depth_multiplier=2), 1),
    "DepthwiseConv2D": ((11, 9, 5), lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), 1),
    "SeparableConv1D": ((11, 5), lambda: layers.SeparableConv1D(7, 3), 1),
    "SeparableConv2D": ((11, 9, 5), lambda: layers.SeparableConv2D(7, 3, depth_multiplier=2), 1),
    "Conv1DTranspose": ((11, 5), lambda: layers.Conv1DTranspose(7, 3, strides=2), 1),
    "Conv2DTranspose": ((11, 9, 5), lambda: layers.Conv2DTranspose(7, 3, strides=2), 1),
    "MultiHeadAttention": ((6, 12), lambda: layers.MultiHeadAttention(3, 4), 2),
    "GroupQueryAttention": ((6, 12), lambda: layers.GroupQueryAttention(4, 6, 2), 2),
    "TimeDistributed-Dense": ((4, 7), lambda: layers.TimeDistributed(layers.Dense(5)), 1),
    "TimeDistributed-Conv2D": ((3, 9, 7, 6), lambda: layers.TimeDistributed(layers.Conv2D(8, 3, groups=2)), 1),
    "TimeDistributed-SeparableConv1D": (
        (3, 2, 11, 5),
        lambda: layers.TimeDistributed(layers.TimeDistributed(layers.SeparableConv1D(7, 3))),
        1,
    ),
    "LSTM": ((6, 5), lambda: layers.LSTM(7), 1),
    "GRU": ((6, 5), lambda: layers.GRU(7), 1),
    "GRU-before": ((6, 5), lambda: layers.GRU(7, reset_after=False), 1),
    "LSTM-by-gates": ((6, 5), lambda: layers.LSTM(7, implementation=1), 1),
    "SimpleRNN": ((6, 5), lambda: layers.SimpleRNN(7), 1),
    "Bidirectional": ((6, 5), lambda: layers.Bidirectional(layers.LSTM(7)), 1),
    "Bidirectional-before": ((6, 5), lambda: layers.Bidirectional(layers.GRU(7, reset_after=False)), 1),
}


def layers_side_by_side(names: Iterable[str]) -> tuple[Any, dict[str, np.ndarray]]:
    """`_side_by_side` of these names; its model and data are shared by the tests, which wrap copies of it."""
    return _side_by_side(tuple(names))


@cache
def _side_by_side(names: tuple[str, ...]) -> tuple[Any, dict[str, np.ndarray]]:
    """A model of one input, one layer and one output for each name, with random weights; eight samples."""
    inputs, outputs, rng = {}, {}, np.random.default_rng(0)  # whichever tests ran before
    for name in names:
        shape, make, times = LAYERS[name]
        inputs[name] = keras.Input(shape, name=name.replace("-", "_"))
        outputs[name] = make()(*[inputs[name]] * times)
    model = keras.Model(list(inputs.values()), outputs)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape) * 0.5)
    data = {x.name: rng.normal(size=(8, *x.shape[1:])).astype(np.float32) for x in inputs.values()}
    return model, data


def small_cnn() -> Any:
    """Convolutions with batch norm after them, a depthwise one, a residual sum, a dense head of five."""
    inputs = keras.Input((12, 10, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.ReLU(6.0)(layers.BatchNormalization(name="stem_norm")(x))
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    y = layers.ReLU()(layers.BatchNormalization(name="depthwise_norm")(y))
    x = layers.Add()([x, layers.Conv2D(8, 1, name="project")(y)])
    model = keras.Model(inputs, layers.Dense(5, name="head")(layers.GlobalAveragePooling2D()(x)), name="cnn")
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 2.0, weight.shape) for weight in layer.weights])
    return model


def images(count: int = 16) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 12, 10, 3)).astype(np.float32)


def weights_of(model: Any) -> list[np.ndarray]:
    return [np.asarray(weight).copy() for weight in model.weights]


def file_outputs(result: Any, data: np.ndarray) -> np.ndarray:
    """What the emitted file computes for each sample on the default kernels."""
    runner = Runner(result.content)
    return np.concatenate([runner.run([sample[None]])[0] for sample in data])


def all_outputs(result: Any, data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All outputs of the emitted file by name, for each sample of inputs by name."""
    runner = Runner(result.content)
    order = [data[name] for name in result.graph.input_names()]
    found = [runner.run([values[n : n + 1] for values in order]) for n in range(len(order[0]))]
    return dict(zip(result.graph.output_names(), map(np.concatenate, zip(*found, strict=True)), strict=True))


def output_steps(result: Any) -> dict[str, float]:
    """The scale of every output that a DEQUANTIZE ends, by name."""
    main = result.graph.main
    ends = {op.outputs[0]: main.tensors[op.inputs[0]] for op in main.ops if op.code == "DEQUANTIZE"}
    found = zip(result.graph.output_names(), main.outputs, strict=True)
    return {name: float(ends[t].quantization.scale[0]) for name, t in found if t in ends}


def sqnr_db(found: np.ndarray, expected: np.ndarray) -> float:
    error = found.astype(np.float64) - expected
    return float(10 * np.log10(np.square(expected.astype(np.float64)).sum() / max(np.square(error).sum(), 1e-30)))


def calibrated(model: Any, recipe: Any, data: np.ndarray, **options: Any) -> Any:
    """`model` annotated and calibrated."""
    wrapped = tfq.annotate(model, recipe, **options)
    tfq.calibrate(wrapped, data)
    return wrapped


class Block(layers.Layer):
    """Layers in an attribute and in a list, made in the constructor; its configuration knows its size."""

    def __init__(self, units: int = 7, **named: Any):
        super().__init__(**named)
        self.units = units
        self.first, self.rest = layers.Dense(units, activation="relu"), [layers.Dense(units)]

    def call(self, x: Any) -> Any:
        return self.rest[0](self.first(x))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}
