"""Generated inputs fit what a graph does with them, so that every recipe runs without data."""

from collections.abc import Callable
from functools import cache
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from keras import layers, ops

import tfq_fine as tfq
from tfq_converters.reading.reader import read_model
from tfq_converters.runtime.input_values import Role, drawn, role_of

pytestmark = pytest.mark.usefixtures("conversions_once")


def floats(framework: Any) -> Any:
    """An Embedding fed by a float Input, which casts it."""
    inputs = framework.Input((6,))
    return framework.Model(inputs, framework.layers.Dense(3)(framework.layers.Embedding(11, 4)(inputs)))


def two_tables() -> Any:
    ids = keras.Input((6,), dtype="int32")
    rows = layers.Embedding(50, 4)(ids) + layers.Embedding(7, 4)(ids)
    return keras.Model(ids, layers.Dense(3)(rows))


def columns() -> Any:
    """Both indices of one input, taken apart."""
    both = keras.Input((2,), dtype="int32")
    rows = layers.Concatenate()([layers.Embedding(40, 4)(both[:, 0]), layers.Embedding(9, 4)(both[:, 1])])
    return keras.Model(both, layers.Dense(3)(rows))


def one_hot() -> Any:
    ids = keras.Input((), dtype="int32")
    return keras.Model(ids, layers.Dense(3)(ops.one_hot(ids, 5)))


def masked_scores() -> Any:
    x, mask = keras.Input((6, 4)), keras.Input((6,), dtype="int32")
    scores = ops.sum(layers.Dense(4)(x), -1) + (1.0 - ops.cast(mask, "float32")) * -1e9
    return keras.Model([x, mask], ops.softmax(scores))


def logarithm() -> Any:
    x = keras.Input((6,))
    return keras.Model(x, layers.Dense(3)(ops.log(x + 1e-3)))


def logits() -> Any:
    x = keras.Input((6,))
    return keras.Model(x, layers.Dense(3)(ops.log(x / (1.0 - x))))


def lengths() -> Any:
    x, length = keras.Input((6, 4)), keras.Input((), dtype="int32")
    within = ops.cast(ops.greater(ops.expand_dims(length, 1), np.arange(6, dtype=np.int32)), "float32")
    return keras.Model([x, length], layers.Dense(3)(ops.sum(layers.Dense(4)(x) * within[..., None], 1)))


def plain() -> Any:
    x = keras.Input((6, 6, 3))
    return keras.Model(x, layers.Dense(3)(layers.Flatten()(layers.Conv2D(4, 3, activation="relu")(x))))


MODELS: dict[str, tuple[Callable[[], Any], list[Role]]] = {
    "floats, keras": (lambda: floats(keras), [Role("index", 0, 11)]),
    "floats, tf_keras": (lambda: floats(tf_keras), [Role("index", 0, 11)]),
    "two tables": (two_tables, [Role("index", 0, 7)]),
    "columns": (columns, [Role("index", 0, 9)]),
    "one hot": (one_hot, [Role("index", 0, 5)]),
    "a mask": (masked_scores, [Role("plain"), Role("mask")]),
    "a logarithm": (logarithm, [Role("probability")]),
    "logits": (logits, [Role("probability")]),
    "lengths": (lengths, [Role("plain"), Role("length", 0, 7)]),
    "images": (plain, [Role("plain")]),
}


@cache
def model(name: str) -> Any:
    return MODELS[name][0]()


@pytest.mark.parametrize("name", MODELS)
def test_what_an_input_is(name: str) -> None:
    main = read_model(model(name), check=False).graph.main
    assert [role_of(main, t) for t in main.inputs] == MODELS[name][1]


@pytest.mark.parametrize("recipe", ["float16", "dynamic_int8", "weight_only_int8"])
@pytest.mark.parametrize("name", MODELS)
def test_every_recipe_without_data_works(name: str, recipe: str) -> None:
    result = tfq.quantize(model(name), recipe)
    assert not any("was not compared" in note for note in result.report.notes)


def test_values_are_within_their_role() -> None:
    main = read_model(masked_scores(), check=False).graph.main
    rng = np.random.default_rng(0)
    x, mask = (main.tensors[t] for t in main.inputs)
    for _ in range(50):
        assert set(np.unique(drawn(rng, mask, Role("mask")))) <= {0, 1}
        assert (drawn(rng, mask, Role("mask"))[..., 0] == 1).all()  # never nothing at all
        found = drawn(rng, x, Role("probability"))
        assert found.min() > 0 and found.max() < 1
        assert drawn(rng, mask, Role("index", 0, 3)).max() < 3


def test_strings_are_looked_up() -> None:
    text = keras.Input((4,), dtype="string")
    rows = layers.Embedding(5, 7)(layers.StringLookup(vocabulary=["a", "b", "c"])(text))
    model = keras.Model(text, layers.Dense(3)(layers.Flatten()(rows)))
    assert tfq.quantize(model, "dynamic_int8").report.layer_error
    assert model(tf.constant([["a", "b", "c", "d"]])).shape == (1, 3)
