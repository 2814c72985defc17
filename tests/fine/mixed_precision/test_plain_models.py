"""Search and analysis take plain models: those with wrappers, which fix what each layer gets, are refused."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import tfq_fine as tfq


@pytest.fixture(scope="module")
def wrapped() -> Any:
    inputs = keras.Input((7,))
    return tfq.layers.annotate(keras.Model(inputs, keras.layers.Dense(5)(inputs)), "dynamic_int8")


@pytest.mark.parametrize("call", [tfq.search, tfq.analyze], ids=["search", "analyze"])
def test_wrapped_models_are_refused(wrapped: Any, call: Callable[..., Any]):
    data, options = np.ones((9, 7), np.float32), {"max_bytes": 0.5} if call is tfq.search else {}
    with pytest.raises(tfq.TfqError, match=f"fix the specs of its layers; {call.__name__} takes a plain model"):
        call(wrapped, data, **options)


def test_a_model_without_weights_has_nothing_to_choose():
    inputs = keras.Input((7,))
    with pytest.raises(tfq.TfqError, match="no layer with weights: there is nothing to choose"):
        tfq.search(keras.Model(inputs, keras.layers.ReLU()(inputs)), np.ones((9, 7), np.float32), max_bytes=0.5)
