"""Reading: what goes in must come out unchanged, conversions are compared with the model, bad input is refused."""

import os
import re
import subprocess
import sys
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

from tfq_converters import flatbuffer, keras_checked
from tfq_converters.conversion_check import check_signature, run_signature
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, Quantization, Tensor
from tfq_converters.keras_float_source import refuse_quantized, validate_constants
from tfq_converters.keras_inputs import index_limit, random_inputs
from tfq_converters.keras_reader import Source, read_model
from tfq_converters.keras_saved_model import with_main
from tfq_converters.keras_silence import silenced

# ---------------------------------------------------------------------------------------------------- the models


def cnn() -> Any:
    image = x = layers.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name="conv")(x)
    x = layers.BatchNormalization(name="norm", gamma_initializer="he_normal", beta_initializer="he_normal")(x)
    x = layers.ReLU(6.0, name="relu")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Flatten(name="flat")(x)
    return keras.Model(image, layers.Dense(5, activation="softmax", name="head")(x), name="cnn")


def lstm() -> Any:
    steps = layers.Input((5, 4), name="steps")
    return keras.Model(steps, layers.Dense(2, name="head")(layers.LSTM(3, name="lstm")(steps)), name="lstm_net")


def two_by_two() -> Any:
    """Two inputs in another order than that of their names, two outputs of one shape."""
    a, b = layers.Input((4,), name="a"), layers.Input((6,), name="b")
    joined = layers.Concatenate(name="join")([b, a])
    outputs = [layers.Dense(3, name="first")(joined), layers.Dense(3, activation="tanh", name="second")(a)]
    return keras.Model([b, a], outputs, name="two_by_two")


def shared() -> Any:
    dense = layers.Dense(6, name="shared")
    x = layers.Input((6,), name="x")
    return keras.Model(x, dense(layers.Activation("tanh", name="tanh")(dense(x))), name="shared_net")


class SumToScalar(layers.Layer):
    """Reshapes to a scalar: the file holds a shape constant without elements."""

    def call(self, x: Any) -> Any:
        return tf.reshape(tf.reduce_sum(x), [])


def scalar() -> Any:
    return keras.Sequential([layers.Input((4,), batch_size=1, name="x"), SumToScalar(name="sum")], name="scalar")


def embeddings() -> Any:
    ids = layers.Input((6,), dtype="int32", name="ids")
    both = layers.Add(name="add")(
        [layers.Embedding(50, 4, name="large")(ids), layers.Embedding(3, 4, name="small")(ids)]
    )
    return keras.Model(ids, layers.GlobalAveragePooling1D(name="pool")(both), name="embeddings")


def tf_keras_lstm() -> Any:
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    steps = tf_keras.layers.Input((5, 4), name="steps")
    x = tf_keras.layers.LSTM(3, name="lstm")(steps)
    return tf_keras.Model(steps, tf_keras.layers.Dense(2, name="head")(x), name="old_lstm")


def two_signatures() -> Any:
    """A folder with `serve`, `serving_default` (the same) and `encode`, as Keras' ExportArchive writes it."""
    x = layers.Input((6,), name="x")
    hidden = layers.Dense(4, activation="relu", name="encoder")(x)
    encoder, model = keras.Model(x, hidden), keras.Model(x, layers.Dense(2, name="decoder")(hidden), name="codec")
    archive = keras.export.ExportArchive()
    archive.track(model)
    spec = [tf.TensorSpec((None, 6), tf.float32, name="x")]
    archive.add_endpoint("serve", lambda x: model(x, training=False), spec)
    archive.add_endpoint("encode", lambda x: encoder(x, training=False), spec)
    return model, encoder, archive


MODELS: dict[str, Callable[[], Any]] = {
    f.__name__: f for f in (cnn, lstm, two_by_two, shared, scalar, embeddings, tf_keras_lstm)
}


@pytest.fixture(scope="module")
def source() -> Callable[[str], Source]:
    """Reads a model once for all tests."""

    @cache
    def read(name: str) -> Source:
        keras.utils.set_random_seed(1)
        return read_model(MODELS[name]())

    return read


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """(SavedModel folder of two signatures, its model, its encoder)."""
    keras.utils.set_random_seed(2)
    model, encoder, archive = two_signatures()
    path = tmp_path_factory.mktemp("saved") / "codec"
    archive.write_out(str(path), verbose=False)
    return path, model, encoder


def run(graph: Graph, content: bytes | str, inputs: dict[str, np.ndarray], kernels: Any = "default") -> dict[str, Any]:
    """All outputs of the signature on subgraph 0."""
    signature = next(found for found in graph.signatures if found.subgraph == 0)
    return run_signature(graph, content, signature, inputs, kernels)  # type: ignore[arg-type]


def inputs_of(graph: Graph, samples: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    signature = next(found for found in graph.signatures if found.subgraph == 0)
    return random_inputs(graph, signature, samples, 7, seed)


# ------------------------------------------------------------------------------------------- read, write, read again


@pytest.mark.parametrize("kernels", ["default", "reference"])
@pytest.mark.parametrize("name", MODELS)
def test_reading_and_writing_changes_no_output_bit(source: Any, name: str, kernels: str):
    graph, content = source(name).graph, source(name).content
    written = flatbuffer.write(graph)
    for seed in range(2):
        inputs = inputs_of(graph, seed=seed)
        before, after = run(graph, content, inputs, kernels), run(flatbuffer.read(written), written, inputs, kernels)
        assert before.keys() == after.keys()
        for output, values in before.items():
            assert values.tobytes() == after[output].tobytes(), output


@pytest.mark.parametrize("samples", [1, 3])
def test_a_dynamic_batch_stays_dynamic(source: Any, samples: int):
    found = source("cnn")
    assert found.graph.main.tensors[found.graph.main.inputs[0]].dynamic_shape == (-1, 8, 8, 3)
    written = flatbuffer.write(found.graph)
    inputs = inputs_of(found.graph, samples)
    before, after = run(found.graph, found.content, inputs), run(flatbuffer.read(written), written, inputs)
    assert before["output_0"].shape == (samples, 5)
    assert before["output_0"].tobytes() == after["output_0"].tobytes()


def described(tensor: Tensor) -> tuple:
    data = None if tensor.data is None else (tensor.data.dtype.str, tensor.data.shape, tensor.data.tobytes())
    return replace(tensor, data=None), data


@pytest.mark.parametrize("name", MODELS)
def test_writing_keeps_everything_that_was_read(source: Any, name: str):
    before = flatbuffer.read(source(name).content)
    after = flatbuffer.read(flatbuffer.write(before))
    assert after.signatures == before.signatures
    assert after.metadata == before.metadata
    for old, new in zip(before.subgraphs, after.subgraphs, strict=True):
        assert (new.name, new.inputs, new.outputs) == (old.name, old.inputs, old.outputs)
        assert [described(tensor) for tensor in new.tensors] == [described(tensor) for tensor in old.tensors]
        for old_op, new_op in zip(old.ops, new.ops, strict=True):
            assert str(new_op) == str(old_op)  # options hold arrays, which == compares by element


def test_a_shared_constant_stays_shared(source: Any):
    graph = flatbuffer.read(flatbuffer.write(source("shared").graph))
    first, second = (op for op in graph.main.ops if op.code == "FULLY_CONNECTED")
    assert graph.main.tensors[first.inputs[1]].data is graph.main.tensors[second.inputs[1]].data
    kernels = [tensor for tensor in graph.main.tensors if tensor.is_constant and tensor.shape == (6, 6)]
    assert len({id(tensor.data) for tensor in kernels}) == 1


def test_the_state_of_a_fused_lstm_is_a_variable(source: Any):
    graph = source("tf_keras_lstm").graph
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in {op.code for _, op in graph.ops()}
    assert sum(tensor.is_variable for tensor in graph.main.tensors) == 2  # hidden and cell state


def test_both_signatures_survive(folder: tuple[Path, Any, Any]):
    path, model, encoder = folder
    found = read_model(str(path))
    assert {signature.key: signature.subgraph for signature in found.graph.signatures} == {
        "serving_default": 0,  # interpreters start here
        "encode": 1,
    }
    for graph in (found.graph, with_main(found.graph, 1)):
        content = flatbuffer.write(graph)
        inputs = inputs_of(graph, samples=3)
        (output,) = run(flatbuffer.read(content), content, inputs).values()
        expected = np.asarray((model if graph is found.graph else encoder)(inputs["x"]))
        np.testing.assert_allclose(output, expected, rtol=0, atol=1e-6)  # order of float additions
    assert found.keras_model is None
    assert [op.layer for op in found.graph.main.ops] == ["encoder", "decoder"]


# ----------------------------------------------------------------------------------------------- what can be read


@pytest.mark.parametrize("name", MODELS)
def test_the_file_computes_what_the_model_does(source: Any, name: str):
    """Independent of the reader's own check: inputs by hand, the model called as its user calls it."""
    found = source(name)
    inputs = inputs_of(found.graph, seed=5)
    order = [tensor.name.split(":")[0] for tensor in found.keras_model.inputs]
    expected = found.keras_model([inputs[key] for key in order] if len(order) > 1 else inputs[order[0]])
    expected = expected if isinstance(expected, list) else [expected]
    outputs = run(found.graph, found.content, inputs)
    for value, output in zip(expected, (outputs[key] for key in sorted(outputs)), strict=True):
        np.testing.assert_allclose(output, np.asarray(value), rtol=0, atol=2e-6)  # values below 3, order of additions


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_saved_models_read_as_the_model_does(source: Any, tmp_path: Path, suffix: str):
    found = source("cnn")
    path = tmp_path / f"cnn{suffix}"
    found.keras_model.save(path)
    again = read_model(path)
    inputs = inputs_of(found.graph, samples=2)
    assert (
        run(again.graph, again.content, inputs)["output_0"].tobytes()
        == run(found.graph, found.content, inputs)["output_0"].tobytes()
    )
    assert again.name == "cnn"
    assert [op.layer for op in again.graph.main.ops] == [op.layer for op in found.graph.main.ops]


@pytest.mark.parametrize("kind", ["path", "bytes"])
def test_tflite_reads_as_it_is(source: Any, tmp_path: Path, kind: str):
    content = source("cnn").content
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    found = read_model(path if kind == "path" else bytearray(content))
    assert found.content == (str(path) if kind == "path" else content)
    assert found.keras_model is None
    assert [op.layer for op in found.graph.main.ops] == [op.layer for op in source("cnn").graph.main.ops]
    assert set(found.layers) == {"conv", "depthwise", "flat", "head"}


def test_reading_a_tflite_loads_no_framework(source: Any, tmp_path: Path):
    path = tmp_path / "model.tflite"
    path.write_bytes(source("cnn").content)
    code = (
        "import sys; from tfq_converters.keras_reader import read_model; read_model(sys.argv[1]);"
        "print([name for name in ('tensorflow', 'keras', 'tf_keras', 'h5py') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "[]"


def test_recurrent_models_are_converted_at_batch_1(source: Any):
    for name in ("lstm", "tf_keras_lstm"):
        found = source(name)
        assert found.graph.main.tensors[found.graph.main.inputs[0]].dynamic_shape == (1, 5, 4)
        assert any("batch 1" in note and "'lstm'" in note for note in found.notes)
    assert source("cnn").notes == ()


def test_a_saved_recurrent_model_is_pinned_to_batch_1(source: Any, tmp_path: Path):
    model = source("lstm").keras_model
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


# ------------------------------------------------------------------------------------------- the conversion is checked


class RectifiedProduct(layers.Layer):
    """The pattern whose RELU TFLiteConverter 2.21 drops."""

    def call(self, a: Any, b: Any) -> Any:
        return keras.ops.relu(keras.ops.matmul(a, b))


def rectified() -> Any:
    a, b = (layers.Input((size,), batch_size=rows, name=name) for size, rows, name in ((4, 3, "a"), (5, 4, "b")))
    x = layers.Dense(4, name="before")(a)
    return keras.Model([a, b], layers.Dense(2, name="after")(RectifiedProduct(name="product")(x, b)), name="rectified")


def rectified_error(found: Source) -> float:
    inputs = inputs_of(found.graph)
    (output,) = run(found.graph, found.content, inputs).values()
    return float(np.max(np.abs(output - np.asarray(found.keras_model([inputs["a"], inputs["b"]])))))  # type: ignore[operator]


def test_a_dropped_relu_is_repaired():
    model = rectified()
    unchecked = read_model(model, check=False)
    assert rectified_error(unchecked) > 0.1  # when this fails, the converter has been mended and the repair may go
    found = read_model(model)
    assert rectified_error(found) < 1e-6
    assert any("'product'" in note and "unfold_batchmatmul" in note for note in found.notes)


def test_a_wrong_conversion_names_the_first_wrong_layer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keras_checked, "REPAIRS", ())
    with pytest.raises(TfqError, match=r"'rectified'.*differs by .* begins at layer 'product' \(RectifiedProduct\)"):
        read_model(rectified())


@pytest.mark.parametrize(("factor", "differs"), [(1 + 1e-6, False), (1 + 1e-5, False), (1 + 1e-3, True), (0.9, True)])
def test_how_much_a_conversion_may_differ(source: Any, factor: float, differs: bool):
    """Rounding is let through, a thousandth is not."""
    found = source("cnn")
    (signature,) = found.graph.signatures

    def scaled(inputs: Any) -> dict[str, np.ndarray]:
        return {"output_0": np.asarray(found.keras_model(inputs["image"])) * np.float32(factor)}

    check = check_signature(found.graph, found.content, signature, scaled)
    assert (check.difference is not None) == differs
    assert check.notes == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_conversion_that_loses_a_nan_differs(source: Any, bad: float):
    found = source("cnn")
    (signature,) = found.graph.signatures

    def spoilt(inputs: Any) -> dict[str, np.ndarray]:
        values = np.array(found.keras_model(inputs["image"]))
        values[0, 0] = bad
        return {"output_0": values}

    difference = check_signature(found.graph, found.content, signature, spoilt).difference
    assert difference is not None
    assert difference.largest == np.inf


class Noise(layers.Layer):
    def call(self, x: Any) -> Any:
        return x + tf.random.normal(tf.shape(x))


def test_random_outputs_are_not_compared():
    found = read_model(keras.Sequential([layers.Input((3,)), Noise(name="noise")]))
    assert any("changes from call to call" in note for note in found.notes)


def test_reading_leaves_the_state_of_a_model_alone():
    model = keras.Sequential([layers.Input((5, 4), batch_size=1), layers.LSTM(3, stateful=True, name="lstm")])
    model(np.ones((1, 5, 4), np.float32))
    before = [np.array(variable) for variable in model.variables]
    assert any(np.any(state) for state in (np.array(variable) for variable in model.non_trainable_variables))
    read_model(model)
    for variable, values in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(np.array(variable), values)


def test_indices_are_drawn_from_the_smallest_table(source: Any):
    graph = source("embeddings").graph
    assert index_limit(graph.main, graph.main.inputs[0]) == 3
    drawn = inputs_of(graph, samples=20)["ids"]
    assert drawn.dtype == np.int32
    assert set(np.unique(drawn)) == {0, 1, 2}
    assert index_limit(source("cnn").graph.main, source("cnn").graph.main.inputs[0]) is None


def test_a_float_input_that_is_cast_to_an_index(source: Any):
    """Subclassed models declare every input as float, and cast ids inside."""

    class Words(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.words = layers.Embedding(4, 2, name="words")

        def call(self, ids: Any) -> Any:
            return self.words(ids)

    model = Words()
    model(np.zeros((1, 5), np.int32))
    graph = read_model(model).graph
    (values,) = inputs_of(graph, samples=9).values()
    assert values.dtype == np.float32
    assert set(np.unique(values)) == {0, 1, 2, 3}


# ------------------------------------------------------------------------------------------------------- bad input

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
    "half precision": (lambda folder: half_precision(), "layer 'half' computes in float16"),
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
    return keras.Sequential([layers.Input((3,)), layers.Dense(2, dtype="mixed_float16", name="half")])


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
def test_a_truncated_tflite(source: Any, share: float):
    content = source("cnn").content
    with pytest.raises(TfqError, match="truncated or damaged|truncated:"):
        read_model(content[: int(share * len(content))])


# ---------------------------------------------------------------------------------------------- quantized, not finite


@pytest.mark.parametrize("mode", ["dynamic", "float16", "int8", "int16"])
def test_a_quantized_file_is_refused(source: Any, mode: str):
    converter = tf.lite.TFLiteConverter.from_keras_model(source("big").keras_model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode == "float16":
        converter.target_spec.supported_types = [tf.float16]
    elif mode != "dynamic":
        data = np.random.default_rng(0).standard_normal((4, 1, 64)).astype(np.float32)
        converter.representative_dataset = lambda: ([sample] for sample in data)
        int16 = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8 if mode == "int8" else int16]
    with silenced():
        content = converter.convert()
    with pytest.raises(TfqError, match="is already quantized; pass the float model that it was made from:\n  - "):
        read_model(content)


def big() -> Any:
    """Beyond the 1024 values below which TFLiteConverter leaves weights alone."""
    return keras.Sequential([layers.Input((64,), name="x"), layers.Dense(64, name="dense")], name="big")


MODELS["big"] = big


def test_all_examples_of_quantization_are_counted(source: Any):
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


def test_weights_that_are_not_finite_are_all_listed(source: Any):
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


class CausalMask(layers.Layer):
    def call(self, x: Any) -> Any:
        return x + tf.constant(np.triu(np.full((4, 4), -np.inf, np.float32), 1))


def test_an_infinite_mask_is_no_weight():
    model = keras.Sequential([layers.Input((4, 4)), CausalMask(name="mask"), layers.Softmax(name="softmax")])
    found = read_model(model)
    assert [op.layer for op in found.graph.main.ops] == ["mask", "softmax"]


# ------------------------------------------------------------------------------------------------------- safe mode


@pytest.mark.parametrize("framework", ["keras", "tf_keras"])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_with_code_is_opened_only_on_demand(tmp_path: Path, framework: str, suffix: str):
    library: Any = keras if framework == "keras" else __import__("tf_keras")
    inner = library.Sequential([library.layers.Input((4,)), library.layers.Lambda(lambda x: x * 2, name="twice")])
    model = library.Sequential([library.layers.Input((4,)), inner], name="outer")
    path = tmp_path / f"model{suffix}"
    with silenced():  # tf_keras warns of .h5
        model.save(path)
    with pytest.raises(TfqError, match=r"runs code when it is opened(.|\n)*'twice' is a Lambda"):
        read_model(path)
    found = read_model(path, safe_mode=False)
    (output,) = run(found.graph, found.content, {found.graph.input_names()[0]: np.ones((1, 4), np.float32)}).values()
    np.testing.assert_array_equal(output, np.full((1, 4), 2.0))


def test_a_file_for_tf_keras_may_import_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """tf_keras imports whatever module a file names."""
    import tf_keras

    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    model = tf_keras.Sequential([tf_keras.layers.Input((4,)), tf_keras.layers.Dense(3, name="dense")], name="old")
    model.save(tmp_path / "good.keras")
    import zipfile

    with zipfile.ZipFile(tmp_path / "good.keras") as good, zipfile.ZipFile(tmp_path / "evil.keras", "w") as evil:
        for name in good.namelist():
            content = good.read(name).decode("latin-1")
            if name == "config.json":
                content = content.replace(
                    '"module": "keras.layers", "class_name": "Dense"', '"module": "evil_module", "class_name": "Dense"'
                )
                assert "evil_module" in content
            evil.writestr(name, content.encode("latin-1"))
    with pytest.raises(TfqError, match="'dense' is to be imported from module 'evil_module'"):
        read_model(tmp_path / "evil.keras")
    assert "evil_module" not in sys.modules


def test_a_graph_that_writes_files_is_not_run(tmp_path: Path):
    class Writer(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((2,), tf.float32, name="x")])
        def call(self, x):
            tf.io.write_file(str(tmp_path / "written"), "text")
            return {"y": x + 1.0}

    writer = Writer()
    tf.saved_model.save(writer, str(tmp_path / "model"), signatures={"serving_default": writer.call})
    with pytest.raises(TfqError, match=r"reaches out of its graph(.|\n)*is a WriteFile"):
        read_model(tmp_path / "model")
    assert not (tmp_path / "written").exists()


# --------------------------------------------------------------------------------------------------------- silence


def test_reading_is_silent(capfd: pytest.CaptureFixture[str], folder: tuple[Path, Any, Any]):
    read_model(shared())
    read_model(folder[0])
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_silence_catches_everything_and_ends(capfd: pytest.CaptureFixture[str]):
    with pytest.raises(ValueError, match="oops"), silenced() as caught:
        print("from Python")
        os.write(2, b"from native code\n")
        kept = sys.stderr
        sys.stderr.write("from a stream\n")
        found = caught()
        raise ValueError("oops")
    assert sorted(found.splitlines()) == ["from Python", "from a stream", "from native code"]
    print("after", file=sys.stdout)
    os.write(1, b"after natively\n")
    kept.write("a logger that kept the stream\n")
    captured = capfd.readouterr()
    assert captured.out == "after\nafter natively\n"
    assert captured.err == "a logger that kept the stream\n"
