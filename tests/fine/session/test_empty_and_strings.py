"""Inputs without elements, and strings as data."""

from collections.abc import Callable
from functools import cache
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfq_fine as tfq
from tfq_converters.errors import TfqError
from tfq_converters.runtime.runner import Runner

pytestmark = pytest.mark.usefixtures("conversions_once")


@cache
def with_empty() -> Any:
    full, empty = keras.Input((5,)), keras.Input((0,))
    x = layers.Concatenate()([layers.Dense(7, activation="relu")(full), empty])
    return keras.Model([full, empty], [layers.Dense(3)(x), layers.ReLU()(empty)])


@pytest.mark.parametrize("borders", ["float32", "int8"])
@pytest.mark.parametrize("recipe", ["float16", "dynamic_int8", "full_int8", "full_int16x8"])
def test_an_input_without_elements(recipe: str, borders: str) -> None:
    if borders == "int8" and recipe != "full_int8":
        pytest.skip("integer borders of integer recipes")
    x = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    result = tfq.quantize(
        with_empty(), recipe, [x, np.zeros((9, 0), np.float32)], input_type=borders, output_type=borders
    )
    report = tfq.verify(with_empty(), result.content, [x, np.zeros((9, 0), np.float32)])
    assert report.outputs[0].sqnr_db > 25
    if recipe == "full_int8":
        modes = {row.name: (row.mode, row.reason) for row in result.report.rows}
        assert sum(mode == "integer" for mode, _ in modes.values()) >= 2
        assert any(reason == "one of its tensors has no elements" for _, reason in modes.values())


def test_a_layer_that_reads_nothing_is_an_error() -> None:
    """The kernel of FULLY_CONNECTED forgets its bias where there are no inputs; the layer is named."""
    empty = keras.Input((0,))
    model = keras.Model(empty, layers.Dense(3, bias_initializer="ones", name="dense")(empty))
    with pytest.raises(TfqError, match=r"differs by 1 .* it begins at layer 'dense' \(Dense\)"):
        tfq.quantize(model, "full_int8", np.zeros((9, 0), np.float32))


WORDS = [f"word {n}" for n in range(61)]


@cache
def looked_up(shape: tuple[int, ...], width: int) -> Any:
    keras.utils.set_random_seed(3)
    text = keras.Input(shape, dtype="string")
    rows = layers.Embedding(len(WORDS) + 1, width)(layers.StringLookup(vocabulary=WORDS)(text))
    return keras.Model(text, layers.Dense(3)(layers.Flatten()(rows)))


def text(count: int, *shape: int) -> np.ndarray:
    chosen = np.random.default_rng(1).integers(0, len(WORDS) + 5, (count, *shape))
    return np.array([*WORDS, *("é" * n for n in range(5))])[chosen]


@pytest.mark.parametrize("recipe", ["dynamic_int8", "weight_only_int8", "float16"])
@pytest.mark.parametrize(("shape", "width"), [((1,), 8), ((1,), 64), ((8,), 8), ((2, 4), 8)])
def test_lookup_embedding_and_dense_without_data(shape: tuple[int, ...], width: int, recipe: str) -> None:
    """Of one key, the runtime kept a scalar, and a RESHAPE of 8 to 64 elements failed."""
    model = looked_up(shape, width)
    content = tfq.quantize(model, recipe).content
    words = text(3, *shape)
    for batch in (words[:1], words):
        expected = np.asarray(model(tf.constant(batch)))
        found = Runner(content).run([np.char.encode(batch, "utf-8")])[0]
        assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "str": lambda words: words,
    "objects": lambda words: words.astype(object),
    "bytes": lambda words: np.char.encode(words, "utf-8"),
    "objects of bytes": lambda words: np.char.encode(words, "utf-8").astype(object),
    "a tensor": tf.constant,
    "labelled": lambda words: (words, np.zeros(len(words))),
    "a dataset": lambda words: tf.data.Dataset.from_tensor_slices(words),
    "a batched dataset": lambda words: tf.data.Dataset.from_tensor_slices(words).batch(4),
    "batches": lambda words: ([words[n : n + 3]] for n in range(0, len(words), 3)),
}


@cache
def of_plain_strings() -> bytes:
    """The file with arrays of strings as data."""
    content: bytes = tfq.quantize(looked_up((4,), 8), "full_int8", text(12, 4)).content
    return content


@pytest.mark.parametrize("form", FORMS)
def test_strings_as_data(form: str) -> None:
    model, words = looked_up((4,), 8), text(12, 4)
    result = tfq.quantize(model, "full_int8", FORMS[form](words))
    assert {row.mode for row in result.report.rows if row.code == "FULLY_CONNECTED"} == {"integer"}
    assert tfq.verify(model, result.content, FORMS[form](words)).outputs[0].sqnr_db > 25
    np.testing.assert_array_equal(
        Runner(result.content).run([np.char.encode(words[:1], "utf-8")])[0],
        Runner(of_plain_strings()).run([np.char.encode(words[:1], "utf-8")])[0],
    )


def test_scalar_strings_of_a_dataset() -> None:
    entry = keras.Input((), dtype="string")
    rows = layers.Embedding(len(WORDS) + 1, 8)(layers.StringLookup(vocabulary=WORDS)(entry))
    model = keras.Model(entry, layers.Dense(3)(rows))
    result = tfq.quantize(model, "full_int8", tf.data.Dataset.from_tensor_slices(text(9)))
    assert result.statistics is not None and result.statistics.samples == 9


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((3, 4), np.float32), "expected strings, found float32"),
        (np.array([["a", "b", "c", 4]], object), r"sample 0: 4 is no string, at \[3\]"),
    ],
)
def test_what_is_no_string(data: np.ndarray, message: str) -> None:
    with pytest.raises(TfqError, match=message):
        tfq.quantize(looked_up((4,), 8), "full_int8", data)
