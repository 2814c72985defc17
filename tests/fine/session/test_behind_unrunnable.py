"""Nobody knows the range of what comes after operators that no runtime executes: it stays float, and is reported."""

from collections.abc import Callable
from functools import cache
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import tfq_fine as tfq
from tfq_converters.runtime.unrunnable import unrunnable_names

pytestmark = pytest.mark.usefixtures("conversions_once")


def pooled() -> tuple[Any, Any, str]:
    x = keras.Input((4, 4, 4, 3))
    y = layers.MaxPooling3D()(layers.Conv3D(5, 3, padding="same")(x))
    return keras.Model(x, layers.Dense(3)(layers.Flatten()(y))), normal(9, 4, 4, 4, 3), "FlexMaxPool3D"


def error_function() -> tuple[Any, Any, str]:
    x = keras.Input((6,))
    return keras.Model(x, ops.erf(layers.Dense(4)(x))), normal(9, 6), "FlexErf"


def suppressed() -> tuple[Any, Any, str]:
    boxes, scores = keras.Input((10, 1, 4)), keras.Input((10, 2))
    kept = layers.Lambda(
        lambda both: tf.image.combined_non_max_suppression(*both, 5, 5).nmsed_boxes, output_shape=(5, 4)
    )
    model = keras.Model([boxes, scores], kept([boxes, layers.Dense(2)(scores)]))
    return model, [np.abs(normal(9, 10, 1, 4)), normal(9, 10, 2)], "FlexCombinedNonMaxSuppression"


def integer_lookup() -> tuple[Any, Any, str]:
    """Its table is a resource that is filled once, in a subgraph of its own."""
    ids = keras.Input((4,), dtype="int32")
    rows = layers.Embedding(12, 4)(layers.IntegerLookup(vocabulary=list(range(10, 21)))(ids))
    model = keras.Model(ids, layers.Dense(3)(layers.Flatten()(rows)))
    return model, np.arange(36, dtype=np.int32).reshape(9, 4) % 25, "FlexLookupTableFindV2"


MODELS: dict[str, Callable[[], tuple[Any, Any, str]]] = {
    "MaxPool3D": pooled,
    "erf": error_function,
    "NMS": suppressed,
    "IntegerLookup": integer_lookup,
}


@cache
def case(name: str) -> tuple[Any, Any, str]:
    """A model, data, and the operator of it that no runtime executes."""
    return MODELS[name]()


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("output_type", ["int8", "uint8", "int16"])
@pytest.mark.parametrize("name", MODELS)
def test_an_output_of_unknown_range_stays_float(name: str, output_type: str) -> None:
    model, data, operator = case(name)
    recipe = "full_int16x8" if output_type == "int16" else "full_int8"
    result = tfq.quantize(model, recipe, data, input_type=output_type, output_type=output_type)
    main = result.graph.main
    assert {main.tensors[t].dtype for t in main.outputs} == {"float32"}
    assert {main.tensors[t].dtype for t in main.inputs} == ({"int32"} if name == "IntegerLookup" else {output_type})
    (note,) = [note for note in result.report.notes if "stay float32" in note]
    assert output_type in note and operator in note
    assert operator in unrunnable_names(result.graph)


@pytest.mark.parametrize("recipe", ["dynamic_int8", "weight_only_int8"])
@pytest.mark.parametrize("name", MODELS)
def test_weights_around_are_quantized_without_data(name: str, recipe: str) -> None:
    model, _, operator = case(name)
    result = tfq.quantize(model, recipe)
    assert any(row.mode != "float" for row in result.report.rows if row.weights) or name == "MaxPool3D"
    assert any(note.split(":")[0].endswith(operator) or operator in note for note in result.report.notes)


def test_a_known_output_beside_is_an_integer() -> None:
    x = keras.Input((6,))
    hidden = layers.Dense(4)(x)
    result = tfq.quantize(keras.Model(x, [hidden, ops.erf(hidden)]), "full_int8", normal(9, 6), output_type="int8")
    main = result.graph.main
    assert sorted(main.tensors[t].dtype for t in main.outputs) == ["float32", "int8"]
