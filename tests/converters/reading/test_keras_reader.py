"""What can be read, and what is refused with one clear error."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from support.keras_models import MODELS, inputs_of, run, source
from tfq_converters import flatbuffer
from tfq_converters.reading.reader import read_model
from tfq_converters.runtime.runner import Runner


@pytest.mark.parametrize("name", MODELS)
def test_the_file_computes_what_the_model_does(name: str):
    """Independent of the reader's own check: inputs by hand, the model called as its user calls it."""
    found = source(name)
    inputs = inputs_of(found.graph, seed=5)
    model: Any = found.keras_model
    order = [tensor.name.split(":")[0] for tensor in model.inputs]
    expected = model([inputs[key] for key in order] if len(order) > 1 else inputs[order[0]])
    expected = expected if isinstance(expected, list) else [expected]
    outputs = run(found.graph, found.content, inputs)
    for value, output in zip(expected, (outputs[key] for key in sorted(outputs)), strict=True):
        np.testing.assert_allclose(output, np.asarray(value), rtol=0, atol=2e-6)  # values below 3, order of additions


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
@pytest.mark.parametrize("names", [("a", "b"), ("b", "a"), ("n", "z", "m")], ids="".join)
def test_inputs_have_the_models_order(package: str, names: tuple[str, ...]):
    """They have one shape: whoever passes a list would not notice that they are swapped."""
    library = importlib.import_module(package)
    inputs = [library.Input((3,), name=name) for name in names]
    scaled = [library.layers.Rescaling(factor)(x) for factor, x in enumerate(inputs, 1)]
    model = library.Model(inputs, library.layers.Add()(scaled))
    found = read_model(model)
    assert found.graph.input_names() == list(names)
    values = [np.full((1, 3), 10.0**place, np.float32) for place in range(len(names))]
    expected = sum(factor * value for factor, value in enumerate(values, 1))
    for content in (found.content, flatbuffer.write(found.graph)):
        np.testing.assert_allclose(Runner(content).run(values)[0], expected, rtol=1e-6)  # an addition or two


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_saved_models_read_as_the_model_does(tmp_path: Path, suffix: str):
    found = source("cnn")
    path = tmp_path / f"cnn{suffix}"
    model: Any = found.keras_model
    model.save(path)
    again = read_model(path)
    inputs = inputs_of(found.graph, samples=2)
    assert (
        run(again.graph, again.content, inputs)["output_0"].tobytes()
        == run(found.graph, found.content, inputs)["output_0"].tobytes()
    )
    assert again.name == "cnn"
    assert [op.layer for op in again.graph.main.ops] == [op.layer for op in found.graph.main.ops]


@pytest.mark.parametrize("kind", ["path", "bytes"])
def test_tflite_reads_as_it_is(tmp_path: Path, kind: str):
    content = source("cnn").content
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    found = read_model(path if kind == "path" else bytearray(content))
    assert found.content == (str(path) if kind == "path" else content)
    assert found.keras_model is None
    assert [op.layer for op in found.graph.main.ops] == [op.layer for op in source("cnn").graph.main.ops]
    assert set(found.layers) == {"conv", "depthwise", "flat", "head"}


def test_reading_a_tflite_loads_no_framework(tmp_path: Path):
    path = tmp_path / "model.tflite"
    path.write_bytes(source("cnn").content)
    code = (
        "import sys; from tfq_converters.reading import read_model; read_model(sys.argv[1]);"
        "print([name for name in ('tensorflow', 'keras', 'tf_keras', 'h5py') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(path)], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "[]"


def test_recurrent_models_are_converted_at_batch_1():
    for name in ("lstm", "tf_keras_lstm"):
        found = source(name)
        assert found.graph.main.tensors[found.graph.main.inputs[0]].dynamic_shape == (1, 5, 4)
        assert any("batch 1" in note and "'lstm'" in note for note in found.notes)
    assert source("cnn").notes == ()


def test_a_saved_recurrent_model_is_pinned_to_batch_1(tmp_path: Path):
    model: Any = source("lstm").keras_model
    model.export(str(tmp_path / "lstm"), verbose=False)
    found = read_model(tmp_path / "lstm")
    assert found.graph.main.tensors[found.graph.main.inputs[0]].dynamic_shape == (1, 5, 4)
    assert any("batch 1" in note for note in found.notes)
    inputs = inputs_of(found.graph)
    (output,) = run(found.graph, found.content, inputs).values()
    np.testing.assert_allclose(output, np.asarray(model(inputs["steps"])), rtol=0, atol=1e-6)


def test_a_fixed_batch_is_kept():
    model = keras.Sequential([layers.Input((5, 4), batch_size=3, name="x"), layers.GRU(2, name="gru")])
    found = read_model(model)
    assert found.graph.main.tensors[found.graph.main.inputs[0]].shape == (3, 5, 4)
    assert found.notes == ()


class Subclassed(keras.Model):
    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.blocks = [layers.Dense(4, activation="relu", name="one"), layers.Dense(4, name="two")]
        self.head = layers.Dense(2, name="head")

    def call(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return {"logits": self.head(x), "features": {"last": x}}


def test_a_subclassed_model_with_nested_outputs():
    model = Subclassed(name="mine")
    x = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    expected = model(x)
    found = read_model(model)
    assert [op.layer for op in found.graph.main.ops] == ["one", "two", "head"]
    (name,) = found.graph.input_names()
    outputs = run(found.graph, found.content, {name: x})
    flat = [expected["features"]["last"], expected["logits"]]  # dicts are flattened in the order of their keys
    for value, key in zip(flat, ["output_0", "output_1"], strict=True):
        np.testing.assert_allclose(outputs[key], np.asarray(value), rtol=0, atol=1e-6)


@pytest.mark.parametrize("names", [("in", "class"), ("in", "a b.c"), ("1st", "2nd")])
def test_names_that_python_cannot_take_as_arguments(names: tuple[str, str]):
    inputs = [layers.Input((3,), name=name) for name in names]
    model = keras.Model(inputs, layers.Subtract(name="subtract")(inputs), name="odd_names")
    found = read_model(model)
    first, second = (re.sub(r"\W", "_", name) for name in names)
    values = {f"input_{first}": np.full((1, 3), 5.0, np.float32)}
    values[second if second.isidentifier() and second != "class" else f"input_{second}"] = np.ones((1, 3), np.float32)
    (output,) = run(found.graph, found.content, values).values()
    np.testing.assert_array_equal(output, np.full((1, 3), 4.0))


class Determinant(layers.Layer):
    def call(self, x: Any) -> Any:
        return tf.linalg.det(x)


def test_operations_that_tflite_lacks_are_listed_and_not_run():
    found = read_model(keras.Sequential([layers.Input((3, 3), name="x"), Determinant(name="det")], name="flex"))
    assert [(op.label, op.layer) for op in found.graph.main.ops] == [("CUSTOM:FlexMatrixDeterminant", "det")]
    assert any("MatrixDeterminant" in note and "stays float" in note for note in found.notes)
    assert any("not compared" in note for note in found.notes)


def test_a_tf_keras_file_is_loaded_with_tf_keras(tmp_path: Path):
    import tf_keras

    x = tf_keras.layers.Input((4,))
    tf_keras.Model(x, tf_keras.layers.Dense(3, name="dense")(x), name="old").save(tmp_path / "old.keras")
    found = read_model(tmp_path / "old.keras")
    assert type(found.keras_model).__module__.startswith("tf_keras")
    assert any("loaded with tf_keras" in note for note in found.notes)
    assert [op.layer for op in found.graph.main.ops] == ["dense"]
