"""Batches: one that the user declared stays, and the data is cut to it; one that a call set is dropped."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras

import tfq_fine as tfq
from tfq_converters.errors import TfqError
from tfq_converters.runtime.runner import Runner

pytestmark = pytest.mark.usefixtures("conversions_once")


def data(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 7, 5, 2)).astype(np.float32)


def body(framework: Any) -> list[Any]:
    layers = framework.layers
    return [layers.Conv2D(6, 3, activation="relu"), layers.Flatten(), layers.Dense(3)]


@cache
def declared(size: int) -> keras.Model:
    inputs = keras.Input((7, 5, 2), batch_size=size)
    outputs = inputs
    for layer in body(keras):
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def input_shape(result: Any) -> tuple[int, ...]:
    (tensor,) = result.graph.main.inputs
    return result.graph.main.tensors[tensor].dynamic_shape


@pytest.mark.parametrize(
    "recipe", ["float16", "dynamic_int8", "weight_only_int8", "weight_only_int4", "full_int8", "full_int16x8"]
)
def test_a_declared_batch_above_eight_stays(recipe: str) -> None:
    model = declared(9)
    result = tfq.quantize(model, recipe, data(31))
    assert input_shape(result) == (9, 7, 5, 2)
    found = Runner(result.content).run([data(9)])[0]
    expected = np.asarray(model(data(9)))
    assert np.abs(found - expected).max() < (1 if "int4" in recipe else 0.1) * np.abs(expected).max()


def test_samples_that_fill_no_batch_are_left_out_and_the_report_says_so() -> None:
    model = declared(32)
    whole, more = (tfq.quantize(model, "full_int8", data(n)) for n in (64, 67))
    assert more.content == whole.content
    assert any(note.startswith("3 samples were left out") for note in more.report.notes)
    assert not any("left out" in note for note in whole.report.notes)
    statistics = tfq.calibrate(model, (row[None] for row in data(67)))
    assert statistics.samples == 64


def test_less_than_one_batch_is_an_error() -> None:
    with pytest.raises(TfqError, match="takes exactly 32 samples at a time, and the data holds fewer"):
        tfq.quantize(declared(32), "full_int8", data(31))
    with pytest.raises(TfqError, match="takes 32 samples at a time, and limit=31 is fewer; raise the limit"):
        tfq.quantize(declared(32), "full_int8", data(64), num_samples=31)


def test_verify_leaves_out_no_sample() -> None:
    model = declared(9)
    with pytest.raises(TfqError, match="31 samples leave 4 over"):
        tfq.verify(model, tfq.quantize(model).content, data(31))


def fitted(framework: Any) -> Any:
    model = framework.Sequential(body(framework))
    model.compile("sgd", "mse")
    model.fit(data(64), np.zeros((64, 3)), batch_size=32, verbose=0)
    return model


def called(framework: Any) -> Any:
    model = framework.Sequential(body(framework))
    model(data(32))
    return model


@pytest.mark.parametrize("framework", [keras, tf_keras], ids=["keras", "tf_keras"])
@pytest.mark.parametrize("made", [fitted, called])
def test_a_batch_that_was_not_declared_is_dropped(made: Callable[[Any], Any], framework: Any) -> None:
    model = made(framework)
    result = tfq.quantize(model, "full_int8", data(13))
    assert input_shape(result) == (-1, 7, 5, 2)
    if model.inputs[0].shape[0] == 32:
        assert any("was that of a call" in note for note in result.report.notes)
    for count in (1, 3):
        expected = np.asarray(model(data(count)))
        found = Runner(result.content).run([data(count)])[0]
        assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("framework", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_a_declared_batch_of_a_sequential_stays(framework: Any) -> None:
    model = framework.Sequential([framework.Input((7, 5, 2), batch_size=9), *body(framework)])
    assert input_shape(tfq.quantize(model, "full_int8", data(18))) == (9, 7, 5, 2)


@pytest.mark.parametrize(
    ("framework", "suffix"), [(keras, ".keras"), (keras, ".h5"), (tf_keras, ".h5")], ids=["keras", "h5", "tf_keras"]
)
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_saved_sequential_takes_any_batch(framework: Any, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    called(framework).save(path)
    result = tfq.quantize(path, "full_int8", data(13))
    assert input_shape(result) == (-1, 7, 5, 2)
    assert any("batch of 32 was dropped" in note for note in result.report.notes)


@pytest.mark.parametrize("framework", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_a_model_that_keeps_state_keeps_its_batch(framework: Any) -> None:
    model = framework.Sequential([framework.layers.LSTM(4, stateful=True), framework.layers.Dense(3)])
    model(np.zeros((2, 3, 5), np.float32))
    assert input_shape(tfq.quantize(model)) == (2, 3, 5)
