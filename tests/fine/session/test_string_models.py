"""Models that take strings: inputs that no array of numbers holds, and ids whose rank the file does not know."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfq_fine as tfq


def looked_up() -> Any:
    keras.utils.set_random_seed(3)
    text = keras.Input((4,), dtype="string")
    rows = layers.Embedding(5, 7)(layers.StringLookup(vocabulary=["a", "b", "c"])(text))
    return keras.Model(text, layers.Dense(3)(layers.Flatten()(rows)))


@pytest.mark.parametrize(("recipe", "least"), [("dynamic_int8", 40), ("weight_only_int8", 40), ("dynamic_int4", 15)])
def test_embeddings_behind_a_string_lookup(recipe: str, least: float):
    """6 dB per bit, from a little below what the largest weight of a row leaves."""
    model, text = looked_up(), np.array([["a", "b", "c", "unknown"], ["c", "c", "a", "b"]])
    result = tfq.quantize(model, recipe)
    assert {row.mode for row in result.report.rows if row.code == "GATHER"} <= {"dynamic", "weight_only"}
    expected = np.asarray(model(tf.constant(text)))
    file = tf.lite.Interpreter(model_content=result.content)
    (name,) = file.get_signature_list()["serving_default"]["inputs"]
    found = np.concatenate([file.get_signature_runner()(**{name: line[None]})["output_0"] for line in text])
    assert 10 * np.log10(np.square(expected).sum() / np.square(expected - found).sum()) > least


def test_what_tensorflow_alone_splits_is_kept_and_listed():
    text = keras.Input((), dtype="string")
    ids = layers.TextVectorization(vocabulary=["the", "cat"], output_sequence_length=5)(text)
    model = keras.Model(text, layers.Dense(3)(layers.GlobalAveragePooling1D()(layers.Embedding(10, 6)(ids))))
    report = tfq.quantize(model, "dynamic_int8").report
    assert any("StringSplitV2" in note for note in report.notes)
    assert any(row.code == "GATHER" and row.mode != "float" for row in report.rows)
