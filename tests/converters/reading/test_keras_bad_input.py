"""Sources that cannot be quantized: one clear error each, naming layers and listing everything."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from support.keras_models import cnn, source
from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Graph, Quantization
from tfq_converters.reading.conversion.silence import silenced
from tfq_converters.reading.float_source import refuse_quantized, validate_constants
from tfq_converters.reading.reader import read_model
from tfq_converters.runtime.runner import Runner

BAD_INPUT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a number": (lambda folder: 3, "received an object of class int"),
    "a layer": (lambda folder: layers.Dense(3), "received an object of class Dense"),
    "a module": (lambda folder: tf.Module(), "of TensorFlow is not a Keras model"),
    "no such path": (lambda folder: folder / "none.keras", "does not exist"),
    "an empty folder": (lambda folder: folder, "without saved_model.pb"),
    "a text file": (lambda folder: written(folder / "model.txt", b"hello"), "neither .keras"),
    "text as tflite": (lambda folder: written(folder / "model.tflite", b"hello, world"), "is not a TFLite file"),
    "text as bytes": (lambda folder: b"hello, world", "is not a TFLite file"),
    "text as keras": (lambda folder: written(folder / "model.keras", b"hello"), "is not a Keras model file"),
    "text as h5": (lambda folder: written(folder / "model.h5", b"hello"), "is not a Keras model file"),
    "a broken SavedModel": (lambda folder: written(folder / "saved_model.pb", b"hello").parent, "is damaged"),
    "not built": (lambda folder: keras.Sequential([layers.Dense(3)]), "not built"),
    "weights only": (lambda folder: weights_only(folder), "holds weights only"),
    "several arguments": (lambda folder: called_with_two(), "keras.Model([a, b], model(a, b))"),
    "half precision": (
        lambda folder: half_precision(),
        "1 layers (half) compute in mixed_float16, and the",
    ),
    "quantized by Keras": (lambda folder: quantized_by_keras(), "layer 'dense' is quantized already"),
}


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def weights_only(folder: Path) -> Path:
    model = keras.Sequential([layers.Input((3,)), layers.Dense(2)])
    model.save_weights(folder / "model.weights.h5")
    return folder / "model.weights.h5"


def called_with_two() -> Any:
    class Two(keras.Model):
        def call(self, a: Any, b: Any) -> Any:
            return a + b

    model = Two()
    model(np.zeros((1, 3), np.float32), np.zeros((1, 3), np.float32))
    return model


def half_precision() -> Any:
    class Unsaved(layers.Layer):  # Keras cannot make it again: an argument is missing in its configuration
        def __init__(self, factor: Any, **options: Any):
            super().__init__(**options)
            self.factor = factor

        def call(self, x: Any) -> Any:
            return x * self.factor

    return keras.Sequential([layers.Input((3,)), Unsaved(np.ones(3), dtype="mixed_float16", name="half")])


def quantized_by_keras() -> Any:
    model = keras.Sequential([layers.Input((3,)), layers.Dense(2, name="dense")])
    model.get_layer("dense").quantize("int8")
    return model


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_gets_one_clear_error(tmp_path: Path, case: str):
    make, expected = BAD_INPUT[case]
    with pytest.raises(TfqError) as error:
        read_model(make(tmp_path))
    assert expected in str(error.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_tflite(share: float):
    content = source("cnn").content
    with pytest.raises(TfqError, match=r"truncated or damaged|truncated:"):
        read_model(content[: int(share * len(content))])


def test_a_float16_file_of_the_stock_converter_is_read():
    converter = tf.lite.TFLiteConverter.from_keras_model(source("big").keras_model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    with silenced():
        content = converter.convert()
    sample = np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32)
    (found,), (expected,) = (Runner(file).run([sample]) for file in (write(read_model(content).graph), content))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", ["dynamic", "int8", "int16"])
def test_a_quantized_file_is_refused(mode: str):
    converter = tf.lite.TFLiteConverter.from_keras_model(source("big").keras_model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode != "dynamic":
        data = np.random.default_rng(0).standard_normal((4, 1, 64)).astype(np.float32)
        converter.representative_dataset = lambda: ([sample] for sample in data)
        int16 = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8 if mode == "int8" else int16]
    with silenced():
        content = converter.convert()
    with pytest.raises(TfqError, match="is already quantized; pass the float model that it was made from:\n  - "):
        read_model(content)


def test_all_examples_of_quantization_are_counted():
    graph = source("big").graph
    (subgraph,) = graph.subgraphs
    scale = Quantization(np.ones(1, np.float32), np.zeros(1, np.int64))
    tensors = tuple(replace(tensor, dtype="int8", quantization=scale) for tensor in subgraph.tensors)
    with pytest.raises(TfqError) as error:
        refuse_quantized(replace(graph, subgraphs=(replace(subgraph, tensors=tensors * 4),)), "it")
    assert str(error.value).count("\n  - ") == 6
    assert f"and {4 * len(tensors) - 5} more" in str(error.value)


def with_constant(graph: Graph, code: str, slot: int, values: np.ndarray) -> Graph:
    """`graph` with the constant of the first operator `code` in `slot` replaced."""
    index = next(op.inputs[slot] for op in graph.main.ops if op.code == code)
    tensors = list(graph.main.tensors)
    tensors[index] = replace(tensors[index], data=values, shape=values.shape)
    return replace(graph, subgraphs=(replace(graph.main, tensors=tuple(tensors)), *graph.subgraphs[1:]))


def test_weights_that_are_not_finite_are_all_listed():
    graph = source("cnn").graph
    for code, value in (("CONV_2D", np.nan), ("FULLY_CONNECTED", np.inf)):
        index = next(op.inputs[1] for op in graph.main.ops if op.code == code)
        values = np.array(graph.main.tensors[index].data)
        values.flat[-1] = value
        graph = with_constant(graph, code, 1, values)
    with pytest.raises(TfqError) as error:
        read_model(flatbuffer.write(graph))
    assert "layer 'conv', constant" in str(error.value)
    assert "1 NaN, 0 infinite of 108, first at [3, 2, 2, 2]" in str(error.value)
    assert "layer 'head', constant" in str(error.value)
    assert "0 NaN, 1 infinite" in str(error.value)
    validate_constants(source("cnn").graph)


def test_keras_weights_that_are_not_finite_are_all_listed():
    model = cnn()
    for name, value in (("norm", np.nan), ("head", -np.inf)):
        weights = model.get_layer(name).get_weights()
        weights[1][2] = value
        model.get_layer(name).set_weights(weights)
    with pytest.raises(TfqError) as error:
        read_model(model)
    assert "layer 'norm', beta: 1 NaN, 0 infinite of 4, first at [2]" in str(error.value)
    assert "layer 'head', bias: 0 NaN, 1 infinite of 5, first at [2]" in str(error.value)


INFINITE: dict[str, tuple[str, np.ndarray, bool]] = {
    "a mask": ("ADD", np.triu(np.full((4, 4), -np.inf, np.float32), 1), True),
    "a single number": ("ADD", np.array(-np.inf, np.float32), True),
    "a vector of zeros but one": ("ADD", np.array([np.inf, 0, 0, 0], np.float32), False),
    "a matrix of numbers": ("ADD", np.array([[np.inf, 1, 2, 3]] * 4, np.float32), False),
    "a mask of NaN": ("ADD", np.triu(np.full((4, 4), np.nan, np.float32), 1), False),
    "a kernel of zeros but one": ("FULLY_CONNECTED", np.diag(np.array([np.inf, 0, 0, 0], np.float32)), False),
}


@cache
def masked() -> Graph:
    """A Dense without bias, and a mask added to its output."""
    x = layers.Input((4,), batch_size=4, name="x")
    y = layers.Dense(4, use_bias=False, name="dense")(x) + np.triu(np.full((4, 4), -1e9, np.float32), 1)
    return read_model(keras.Model(x, layers.Softmax(name="softmax")(y), name="masked")).graph


@pytest.mark.parametrize("case", INFINITE)
def test_infinite_masks_are_no_weights(case: str):
    """On the graph: the converter itself writes the largest float for infinity, other emitters may not."""
    code, values, legitimate = INFINITE[case]
    graph = with_constant(masked(), code, 1, values)
    if legitimate:
        validate_constants(graph)
    else:
        with pytest.raises(TfqError, match="NaN or infinite"):
            validate_constants(graph)
