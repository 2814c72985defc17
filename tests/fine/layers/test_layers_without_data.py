"""Static recipes without data, where the ranges that wrappers hold tell all others; and what data is not asked for."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import tfq_fine as tfq
from support.wrapped_models import calibrated, images, small_cnn
from tfq_converters.graph import Graph, Op, Subgraph, Tensor
from tfq_fine.activations import search_ranges as automatic
from tfq_fine.activations.implied_ranges import with_implied, without_range
from tfq_fine.calibration.statistics import Range

pytestmark = pytest.mark.usefixtures("conversions_once")


def covered() -> Any:
    """Every tensor is read by a wrapped layer, or moved to one, or has a scale that its kernel fixes."""
    inputs = keras.Input((12, 10, 3))
    x = layers.Conv2D(7, 3, activation="relu", padding="same", name="first")(inputs)
    x = layers.AveragePooling2D(2)(x)
    x = layers.Concatenate()([x, layers.Conv2D(5, 3, padding="same", name="second")(x)])
    x = layers.Dense(11, name="head")(layers.Flatten()(layers.MaxPooling2D(2)(x)))
    return keras.Model(inputs, layers.Reshape((11, 1))(layers.Softmax()(x)))


@pytest.mark.parametrize("border", ["float32", "int8"])
def test_a_static_file_without_data_is_the_one_with_data(border: Any, monkeypatch: pytest.MonkeyPatch):
    data = images(12)
    wrapped = calibrated(covered(), "full_int8", data)
    counted: list[Any] = []
    monkeypatch.setattr(automatic, "counted", lambda *given: counted.append(given))
    options: Any = {"input_type": border, "output_type": border}
    without = tfq.quantize(wrapped, **options)
    assert {"CONV_2D", "CONCATENATION", "FULLY_CONNECTED", "SOFTMAX"} <= {op.code for op in without.graph.main.ops}
    assert not any(t.dtype == "float32" for t in without.graph.main.tensors if border == "int8")
    assert without.content == tfq.quantize(wrapped, data=data, **options).content
    assert not counted  # no values for ranges that are known


def test_only_what_no_wrapper_holds_is_counted(monkeypatch: pytest.MonkeyPatch):
    data, found = images(12), {}
    wrapped = calibrated(small_cnn(), "full_int8", data)
    best = automatic.best_ranges

    def seen(graph: Any, plan: Any, statistics: Any, known: Any, few: Any, histograms: Any, threads: Any) -> Any:
        found.update({graph.main.tensors[t].name.split("/")[1]: histogram for t, histogram in histograms.items()})
        return best(graph, plan, statistics, known, few, histograms, threads)

    monkeypatch.setattr(automatic, "best_ranges", seen)
    tfq.quantize(wrapped, data=data)
    assert [name.partition("_")[0] for name in found] == ["add"]


def test_tensors_without_a_range_are_named_in_one_error():
    wrapped = calibrated(small_cnn(), "full_int8", images(12))
    with pytest.raises(tfq.TfqError, match=r"give data=\.\.\.; the model itself has no range for cnn\w*/add\w*/Add$"):
        tfq.quantize(wrapped)
    with pytest.raises(tfq.TfqError, match=r"give data=\.\.\., or statistics=\.\.\.$"):
        tfq.quantize(small_cnn(), "full_int8")


def graph_of(*ops: Op) -> Graph:
    """Operators over vectors."""
    count = 1 + max(t for op in ops for t in (*op.inputs, *op.outputs))
    tensors = tuple(Tensor(f"t{n}", (1, 7), "float32") for n in range(count))
    return Graph((Subgraph("main", tensors, ops, (0,), (count - 1,)),))


A, B = Range(-1.0, 2.0), Range(0.5, 3.0)
CASES = {
    "a result says what the inputs must hold": ([Op("CONCATENATION", (0, 1), (2,))], {2: A}, {0: A, 1: A, 2: A}),
    "one input says nothing": ([Op("CONCATENATION", (0, 1), (2,))], {0: A}, {0: A}),
    "all inputs do": ([Op("CONCATENATION", (0, 1), (2,))], {0: A, 1: B}, {0: A, 1: B, 2: Range(-1.0, 3.0)}),
    "backwards through two": ([Op("RESHAPE", (0,), (1,)), Op("RESHAPE", (1,), (2,))], {2: B}, {0: B, 1: B, 2: B}),
    "fixed": ([Op("TANH", (0,), (1,))], {0: A}, {0: A, 1: Range(-1.0, 127 / 128)}),
    "clamped": ([Op("RELU", (0,), (1,))], {0: A}, {0: A, 1: Range(0.0, 2.0)}),
    "clamped at 6": ([Op("RELU6", (0,), (1,))], {0: Range(-9.0, 9.0)}, {0: Range(-9.0, 9.0), 1: Range(0.0, 6.0)}),
    "a sum is not implied": ([Op("ADD", (0, 1), (2,))], {0: A, 1: B}, {0: A, 1: B}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_follows_from_known_ranges(case: str):
    ops, known, expected = CASES[case]
    graph, bits = graph_of(*ops), dict.fromkeys(range(len(ops)), 8)
    assert with_implied(graph, bits, known) == expected
    every = {t for op in ops for t in (*op.inputs, *op.outputs)}
    assert set(without_range(graph, bits, expected)) == every - set(expected)


def test_ranges_do_not_depend_on_data_that_is_given():
    data = images(12)
    wrapped = calibrated(covered(), "full_int8", data)
    other = tfq.quantize(wrapped, data=np.float32(5) * data)
    assert other.content == tfq.quantize(wrapped).content
