"""Custom layers and subclassed models with wrappers inside: what Keras saves is what it loads."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from keras import layers

import tfq_fine as tfq
from support.wrapped_models import Block, calibrated
from tfq_fine.layers.wrapped import wrappers

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(16, 7)).astype(np.float32)
MATRIX = tfq.layers.LayerRow((tfq.layers.Kernel("matrix", "FULLY_CONNECTED", ((1,), (0,))),))


class Pair(NamedTuple):
    left: Any
    right: Any


class Built(layers.Layer):
    """Builds the layers inside by itself, by their own `build`, and changes a state with every call."""

    def __init__(self, **named: Any):
        super().__init__(**named)
        self.dense, self.norm = layers.Dense(7), layers.BatchNormalization()

    def build(self, shape: Any) -> None:
        self.dense.build(shape)
        self.norm.build(shape)
        self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False, name="seen")

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.seen.assign_add(1.0)
        return keras.ops.relu(self.norm(self.dense(x), training=training))


class OwnDense(layers.Layer):
    """A layer type that has no row."""

    def build(self, shape: Any) -> None:
        self.matrix = self.add_weight(shape=(shape[-1], 5), initializer="glorot_uniform", name="matrix")

    def call(self, x: Any) -> Any:
        return keras.ops.matmul(x, self.matrix)


class Containers(keras.Model):
    """Layers in an attribute, a dict, nested lists and a named tuple, and one under two attributes."""

    def __init__(self, units: int = 5):
        super().__init__()
        self.first = layers.Dense(units, activation="relu")
        self.again = layers.Dense(units, activation="relu")
        self.shared = self.again
        self.nested = [[layers.Dense(6), layers.ReLU()], [layers.Dense(7)]]
        self.pair = Pair(layers.Dense(5), layers.ReLU())
        self.more = {"last": layers.Dense(3)}

    def call(self, x: Any) -> Any:
        x = self.shared(self.again(self.first(x)))
        for layer in (*self.nested[0], *self.nested[1], *self.pair):
            x = layer(x)
        return self.more["last"](x)


class Outer(keras.Model):
    """Custom layers, a subclassed model, a Sequential and a Functional model inside a subclassed model."""

    def __init__(self, depth: int = 1, **named: Any):
        super().__init__(**named)
        self.depth = depth
        self.blocks = [Block(7) for _ in range(depth)]
        self.built_block = Built()
        self.body = keras.Sequential([layers.Dense(6, activation="relu"), layers.Dense(7)])
        inputs = keras.Input((7,))
        self.graph = keras.Model(inputs, layers.Add()([inputs, layers.Dense(7)(inputs)]))
        self.head = Containers(4)

    def call(self, x: Any) -> Any:
        for layer in (*self.blocks, self.built_block, self.body, self.graph):
            x = layer(x)
        return self.head(x)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "depth": self.depth}


@keras.saving.register_keras_serializable("tests")
class Told(keras.Model):
    """A registered class whose own configuration holds the layers inside."""

    def __init__(self, inner: Any, **named: Any):
        super().__init__(**named)
        self.inner, self.last = inner, layers.Dense(3)

    def call(self, x: Any, training: bool = False) -> Any:
        return self.last(self.inner(x))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "inner": keras.saving.serialize_keras_object(self.inner)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(keras.saving.deserialize_keras_object(config.pop("inner")), **config)


def called(model: Any) -> Any:
    model(ROWS)
    return model


def functional(*inside: Any) -> Any:
    x = inputs = keras.Input((7,))
    for layer in inside:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(3)(x))


OWN = {cls.__name__: cls for cls in (Block, Built, OwnDense, Containers, Outer)}
MODELS: dict[str, tuple[Callable[[], Any], int]] = {  # name -> (model, how many wrappers)
    "attributes, lists, dicts, shared": (lambda: called(Containers()), 6),
    "nested in a subclassed model": (lambda: called(Outer()), 3 + 2 + 1 + 6),
    "custom layers in a Functional model": (lambda: functional(Block(), Built()), 4),
    "a registered class that tells its layers": (lambda: called(Told(layers.Dense(6))), 2),
    "custom layers in a class that tells them": (lambda: called(Told(Built())), 2),
    "a row of the user's": (lambda: called(Told(OwnDense())), 2),
}


def wrapped(name: str, recipe: str = "full_w4a8", **options: Any) -> Any:
    make, count = MODELS[name]
    found = calibrated(make(), recipe, ROWS, rows={"OwnDense": MATRIX}, **options)
    assert len(wrappers(found)) == count
    return found


def reloaded(model: Any, folder: Path, own: dict[str, Any] = OWN) -> Any:
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras", custom_objects=own)


def assert_same(found: Any, expected: Any) -> None:
    """The same weights and outputs to the last bit."""
    assert [w.shape for w in found.weights] == [w.shape for w in expected.weights]
    for new, old in zip(found.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(new), np.asarray(old), err_msg=old.path)
    np.testing.assert_array_equal(np.asarray(found(ROWS)), np.asarray(expected(ROWS)))


def file_of(model: Any) -> bytes:
    content: bytes = tfq.quantize(model, data=ROWS).content
    return content


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_is_the_one_in_memory(name: str, tmp_path: Path):
    model = wrapped(name)
    found = reloaded(model, tmp_path)
    assert_same(found, model)
    assert file_of(found) == file_of(model)
    assert isinstance(found, MODELS[name][0]().__class__)
    again = tmp_path / "again"
    again.mkdir()
    assert_same(reloaded(found, again), model)


def test_a_fine_tuned_model_goes_on_where_it_was(tmp_path: Path):
    """Learned scales, states of the layers inside, and the optimizer: one more step gives the same weights."""
    model = wrapped("custom layers in a class that tells them", learned=True)
    model.compile(keras.optimizers.Adam(1e-2), "mse", jit_compile=False)
    target = np.ones((16, 3), np.float32)
    before = [np.asarray(w).copy() for w in model.weights]
    model.fit(ROWS, target, epochs=2, batch_size=8, verbose=0)
    moved = [w.name for w, old in zip(model.weights, before, strict=True) if not np.array_equal(np.asarray(w), old)]
    assert {"scale_0", "input_0_step", "kernel", "seen", "moving_mean"} <= set(moved)
    found = reloaded(model, tmp_path)
    assert_same(found, model)
    assert file_of(found) == file_of(model)
    for either in (found, model):
        either.fit(ROWS, target, epochs=1, batch_size=8, shuffle=False, verbose=0)
    for new, old in zip(found.weights, model.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(new), np.asarray(old), err_msg=old.path)


@pytest.mark.parametrize(("learned", "jit"), [(False, True), (True, False)], ids=["averaged, jit", "learned, plain"])
def test_ranges_inside_layers_are_trained_and_saved(learned: bool, jit: bool, tmp_path: Path):
    inputs = keras.Input((6, 5))
    x = layers.SeparableConv1D(7, 3, activation="relu")(inputs)
    model = keras.Model(inputs, layers.Dense(3)(layers.MultiHeadAttention(2, 4)(x, x)))
    data = RNG.normal(size=(16, 6, 5)).astype(np.float32)
    found = calibrated(model, "full_int8", data, learned=learned)
    inside = [
        w for w in found.weights if w.name.startswith("inside") and w.name.endswith("step" if learned else "high")
    ]
    assert len(inside) == 2
    before = [float(np.asarray(w)) for w in inside]
    found.compile(keras.optimizers.Adam(1e-2), "mse", jit_compile=jit)
    found.fit(data, np.ones((16, 4, 3), np.float32), epochs=1, batch_size=8, verbose=0)
    assert all(float(np.asarray(w)) != old for w, old in zip(inside, before, strict=True))
    expected = np.asarray(found(data))
    found.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(loaded(data)), expected)
    assert tfq.quantize(loaded, data=data).content == tfq.quantize(found, data=data).content


@pytest.mark.parametrize(
    ("modules", "load"),
    [("keras, tfq_fine as tfq", "keras.saving.load_model"), ("tfq_fine as tfq, keras", "tfq.load_model")],
    ids=["by Keras, imported first", "by load_model"],
)
def test_a_model_opens_in_a_fresh_process(modules: str, load: str, tmp_path: Path):
    """By `custom_objects` and by registration; names that Keras made up are those of the file."""
    code = (
        f"import sys, {modules}, test_layers_saving as own;"
        "keras.layers.Dense(1), keras.layers.Dense(1);"  # so that Keras counts on from other numbers
        f"model = {load}(sys.argv[1], custom_objects=own.OWN);"
        "tfq.quantize(model, data=own.ROWS).save(sys.argv[2])"
    )
    own = keras.Sequential([keras.Input((7,)), Block(), Built(), Told(Built())])
    model = calibrated(own, "full_int8", ROWS)
    assert len(wrappers(model)) == 5
    path, found = tmp_path / "model.keras", tmp_path / "found.tflite"
    model.save(path)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, path, found], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert found.read_bytes() == file_of(model)


def test_a_loaded_model_is_compiled_as_it_was(tmp_path: Path):
    model, path = wrapped("a registered class that tells its layers"), tmp_path / "model.keras"
    model.compile("sgd", "mse")
    model.save(path)
    optimizer = tfq.load_model(path).optimizer
    assert isinstance(optimizer, keras.optimizers.SGD) and optimizer.name == model.optimizer.name
    assert getattr(tfq.load_model(path, compile=False), "optimizer", None) is None
    with pytest.raises(tfq.TfqError, match=r"absent\.keras is not a file"):
        tfq.load_model(tmp_path / "absent.keras")


def test_a_file_of_registered_classes_is_quantized_by_its_name(tmp_path: Path):
    model = wrapped("a registered class that tells its layers")
    model.save(tmp_path / "model.keras")
    assert file_of(tmp_path / "model.keras") == file_of(model)


def test_a_model_with_wrappers_inside_is_cloned():
    model = wrapped("custom layers in a Functional model")
    found = keras.models.clone_model(model)
    assert len(wrappers(found)) == len(wrappers(model))
    found.set_weights(model.get_weights())
    assert_same(found, model)


def test_a_class_that_nobody_names_is_an_error(tmp_path: Path):
    with pytest.raises(TypeError, match="Could not locate class 'Containers'"):
        reloaded(wrapped("attributes, lists, dicts, shared"), tmp_path, own={})


def test_what_the_user_sees_is_his_own_class():
    model = wrapped("nested in a subclassed model")
    assert isinstance(model, Outer) and type(model).__name__ == "Outer"
    assert isinstance(model.head.first, tfq.layers.FineQuantize)
    assert model.head.again is model.head.shared
    assert isinstance(model.head.pair, tuple) and isinstance(model.head.pair.left, tfq.layers.FineQuantize)
    plain = tfq.fold_batch_norm(MODELS["attributes, lists, dicts, shared"][0]()).model
    assert type(plain) is Containers


def test_inputs_without_a_name_are_called_alike_in_memory_and_loaded(tmp_path: Path):
    x = keras.Input((7,))
    spec = tfq.WeightSpec(8), tfq.ActivationSpec(8)
    model = keras.Model(x, tfq.layers.FineQuantize(keras.layers.Dense(3), *spec, outputs=True)(x))
    tfq.calibrate(model, ROWS)
    model.save(tmp_path / "model.keras")
    assert file_of(keras.saving.load_model(tmp_path / "model.keras")) == file_of(model)
