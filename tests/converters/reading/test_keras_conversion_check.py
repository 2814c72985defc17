"""Conversions are compared with the model: rounding passes, faults do not, and the first wrong layer is named."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from support.keras_models import inputs_of, run, source, two_signatures
from tfq_converters.errors import TfqError
from tfq_converters.reading.comparison import checked as keras_checked
from tfq_converters.reading.comparison.conversion_check import check_signature
from tfq_converters.reading.keras_models.call import keras_call
from tfq_converters.reading.keras_models.layers import layer_tree
from tfq_converters.reading.keras_models.model import convert_model
from tfq_converters.reading.layer_names.names import Resolver
from tfq_converters.reading.reader import Source, read_model
from tfq_converters.runtime.input_values import Role, role_of


class RectifiedProduct(layers.Layer):
    """The pattern whose RELU TFLiteConverter 2.21 drops."""

    def call(self, a: Any, b: Any) -> Any:
        return keras.ops.relu(keras.ops.matmul(a, b))


def rectified() -> Any:
    a, b = (layers.Input((size,), batch_size=rows, name=name) for size, rows, name in ((4, 3, "a"), (5, 4, "b")))
    x = layers.ReLU(name="fused")(layers.Dense(4, name="before")(a))  # the file never holds the Dense's own output
    return keras.Model([a, b], layers.Dense(2, name="after")(RectifiedProduct(name="product")(x, b)), name="rectified")


def called(found: Source, inputs: Any) -> np.ndarray:
    """A copy of what the model returns for `inputs`."""
    model: Any = found.keras_model
    return np.array(model(inputs))


def rectified_error(found: Source) -> float:
    inputs = inputs_of(found.graph)
    (output,) = run(found.graph, found.content, inputs).values()
    return float(np.max(np.abs(output - called(found, [inputs["a"], inputs["b"]]))))


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
def test_how_much_a_conversion_may_differ(factor: float, differs: bool):
    """Rounding is let through, a thousandth is not."""
    found = source("cnn")
    (signature,) = found.graph.signatures

    def scaled(inputs: Any) -> dict[str, np.ndarray]:
        return {"output_0": called(found, inputs["image"]) * np.float32(factor)}

    check = check_signature(found.graph, found.content, signature, scaled)
    assert (check.difference is not None) == differs
    assert check.notes == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_conversion_that_loses_a_nan_differs(bad: float):
    found = source("cnn")
    (signature,) = found.graph.signatures

    def spoilt(inputs: Any) -> dict[str, np.ndarray]:
        values = called(found, inputs["image"])
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
    x = np.ones((1, 5, 4), np.float32)
    model(x)
    states = model.get_layer("lstm").states
    before = [state.numpy().copy() for state in states]
    assert all(np.any(values) for values in before)
    read_model(model)
    for state, values in zip(states, before, strict=True):
        np.testing.assert_array_equal(state.numpy(), values)
    model(x)
    assert not np.array_equal(states[0].numpy(), before[0])  # calling it is what changes the state


def test_indices_are_drawn_from_the_smallest_table():
    graph = source("embeddings").graph
    assert role_of(graph.main, graph.main.inputs[0]) == Role("index", 0, 3)
    drawn = inputs_of(graph, samples=20)["ids"]
    assert drawn.dtype == np.int32
    assert set(np.unique(drawn)) == {0, 1, 2}
    assert role_of(source("cnn").graph.main, source("cnn").graph.main.inputs[0]) == Role("plain")


def test_a_float_input_that_is_cast_to_an_index():
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


def test_every_signature_is_compared(tmp_path: Path):
    """A second signature stands on a subgraph of its own, which interpreters do not start at."""
    _, encoder, archive = two_signatures()
    archive.write_out(str(tmp_path / "codec"), verbose=False)
    found = read_model(tmp_path / "codec")
    (encode,) = (signature for signature in found.graph.signatures if signature.key == "encode")
    assert encode.subgraph == 1
    for factor in (1.0, 1.01):

        def scaled(inputs: Any, factor: float = factor) -> dict[str, np.ndarray]:
            return {"output_0": np.float32(factor) * np.asarray(encoder(inputs["x"]))}

        check = check_signature(found.graph, found.content, encode, scaled)
        assert (check.difference is not None) == (factor != 1.0)


class Fourier(layers.Layer):
    """Converts, and then runs at batch 1 only."""

    def call(self, x: Any) -> Any:
        return tf.math.real(tf.signal.fft(tf.cast(x, tf.complex64)))


def test_a_conversion_that_does_not_run_is_an_error():
    model = keras.Sequential([layers.Input((3, 4)), Fourier(name="fourier")], name="spectrum")
    with pytest.raises(TfqError, match=r"'spectrum'.*the runtime fails"):
        read_model(model)


def test_sizes_that_a_model_leaves_open_are_found():
    """Eight pixels are too few for it, and 32 are not."""
    image = x = layers.Input((None, None, 2), name="image")
    for index in range(4):
        x = layers.Conv2D(2, 5, name=f"conv_{index}")(x)
    found = read_model(keras.Model(image, layers.GlobalMaxPooling2D(name="pool")(x), name="open"))
    assert found.notes == ()
    assert found.graph.main.tensors[found.graph.main.inputs[0]].dynamic_shape == (-1, -1, -1, 2)


class Picky(layers.Layer):
    def call(self, x: Any) -> Any:
        if tf.executing_eagerly():
            raise ValueError("only traced")
        return x * 2.0


def test_a_model_that_refuses_random_inputs_is_noted():
    found = read_model(keras.Sequential([layers.Input((3,)), Picky(name="picky")]))
    assert any("refuses random inputs" in note and "only traced" in note for note in found.notes)


def test_a_failing_conversion_names_the_layer():
    """Keras' own int8 layers are such that the converter fails; the reader refuses them before that."""
    stack = [layers.Input((3,)), layers.Dense(2, name="one"), layers.Dense(2, name="two")]
    model = keras.Sequential(stack, name="int8")
    model.get_layer("two").quantize("int8")
    call = keras_call(model, "keras")
    with pytest.raises(TfqError) as error:
        convert_model(call, {}, Resolver(layer_tree(model), suffixed=True).layer)
    assert str(error.value).startswith("model 'int8': the TFLite converter fails at layer 'two'")
    assert "BatchMatMul" in str(error.value)  # what it says itself
