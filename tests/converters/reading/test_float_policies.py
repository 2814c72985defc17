"""Models of another float type are rebuilt in float32; they stay unchanged themselves."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras

import tfq_fine as tfq
from tfq_converters.reading.reader import read_model
from tfq_converters.runtime.runner import Runner

FRAMEWORKS = {"keras": keras, "tf_keras": tf_keras}
POLICIES = ("mixed_float16", "mixed_bfloat16", "float64")


def data(count: int = 9) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 7, 5, 2)).astype(np.float32)


@contextmanager
def policy(framework: Any, name: str) -> Iterator[None]:
    put = framework.config.set_dtype_policy if framework is keras else framework.mixed_precision.set_global_policy
    put(name)
    try:
        yield
    finally:
        put("float32")


@keras.saving.register_keras_serializable("tests_float_policies")
class Scaled(keras.layers.Layer):
    """A custom layer with a layer inside."""

    def __init__(self, units: int, **options: Any):
        super().__init__(**options)
        self.units, self.inner = units, keras.layers.Dense(units)

    def build(self, shape: Any) -> None:
        self.inner.build(shape)

    def call(self, x: Any) -> Any:
        return keras.ops.tanh(self.inner(x))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


class Subclassed(keras.Model):
    def __init__(self, **options: Any):
        super().__init__(**options)
        self.first, self.last = keras.layers.Conv2D(4, 3), keras.layers.Dense(3)

    def call(self, x: Any) -> Any:
        return self.last(keras.ops.relu(self.first(x)))


def functional(framework: Any) -> Any:
    layers = framework.layers
    inputs = framework.Input((7, 5, 2), name="image")
    x = layers.BatchNormalization()(layers.Conv2D(6, 3, name="conv")(inputs))
    x = framework.Sequential([layers.ReLU(), layers.DepthwiseConv2D(3, use_bias=False)], name="block")(x)
    x = layers.Flatten()(x)
    if framework is keras:
        x = keras.ops.cast(Scaled(5, name="own")(x), "float16") * 2
    return framework.Model(inputs, layers.Activation("softmax", dtype="float32")(layers.Dense(3)(x)))


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_it_is_rebuilt_with_equal_weights(framework: str, name: str) -> None:
    with policy(FRAMEWORKS[framework], name):
        model = functional(FRAMEWORKS[framework])
        (given,) = {layer.compute_dtype for layer in model.layers if layer.name == "conv"}
    source = read_model(model)
    copy: Any = source.keras_model
    assert any(f"compute in {name}: it was rebuilt in float32" in note for note in source.notes)
    for before, after in zip(model.weights, copy.weights, strict=True):
        assert np.asarray(after).dtype == np.float32
        np.testing.assert_array_equal(np.asarray(before).astype(np.float32), np.asarray(after))
    assert model.get_layer("conv").compute_dtype == given  # the user's own model computes as before
    assert {op.layer for op in source.graph.main.ops} >= {"conv"}
    found = Runner(source.content).run([data(1)])[0]
    expected = np.asarray(model(data(1).astype(np.float64) if name == "float64" else data(1)))
    # float16 keeps 11 bits and bfloat16 8, over a handful of layers; one tensor is cast to float16 in
    # all of them; outputs are probabilities
    assert np.abs(found - expected).max() < {"mixed_float16": 5e-3, "mixed_bfloat16": 5e-2, "float64": 2e-4}[name]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_from_a_file(framework: str, tmp_path: Path) -> None:
    with policy(FRAMEWORKS[framework], "mixed_float16"):
        model = functional(FRAMEWORKS[framework])
    path = tmp_path / "model.keras"
    model.save(path)
    result = tfq.quantize(path, "full_int8", data())
    assert any("compute in mixed_float16: it was rebuilt in float32" in note for note in result.report.notes)
    assert np.abs(Runner(result.content).run([data(1)])[0] - np.asarray(model(data(1)))).max() < 0.05


@pytest.mark.parametrize("name", ["mixed_float16", "float16"])
def test_a_subclassed_model(name: str) -> None:
    with policy(keras, name):
        model = Subclassed()
        model(data(1))
    result = tfq.quantize(model, "dynamic_int8", data())
    expected = np.asarray(model(data(1))).astype(np.float32)
    assert np.abs(Runner(result.content).run([data(1)])[0] - expected).max() < 0.05 * np.abs(expected).max()
    assert model.first.compute_dtype == "float16"


def test_a_sequential_keeps_the_batch_that_it_declares() -> None:
    with policy(keras, "mixed_float16"):
        model = keras.Sequential([keras.Input((7, 5, 2), batch_size=3), keras.layers.Flatten(), keras.layers.Dense(2)])
        called = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])
        called(data(3))
    assert [t.dynamic_shape[0] for t in read_model(model).graph.main.tensors[:1]] == [3]
    free = read_model(called)
    assert free.graph.main.tensors[free.graph.main.inputs[0]].dynamic_shape[0] == -1
    assert any("was that of a call" in note for note in free.notes)


def test_the_policy_of_the_process_is_left_alone() -> None:
    with policy(keras, "mixed_bfloat16"):
        model = functional(keras)
        read_model(model)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert keras.config.floatx() == "float32"
