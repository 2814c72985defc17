"""Which layer each operator came from: by values, by names, by neighbours; each alone, and together."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

from support.keras_layer_models import MODELS, randomized
from tfq_converters.graph import Graph
from tfq_converters.reading.keras_models.layers import LayerInfo, layer_tree
from tfq_converters.reading.layer_names.names import Resolver, parts
from tfq_converters.reading.layer_names.provenance import (
    attach_layers,
    layer_from_names,
    layer_table,
    named_layers,
    trace_layers,
)
from tfq_converters.reading.layer_names.weights import aligned
from tfq_converters.reading.reader import Source, read_model

LINEAR = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "GATHER", "CONV_3D")


@pytest.fixture(scope="module")
def source() -> Callable[[str], Source]:
    """Reads a model once for all tests."""

    @cache
    def read(name: str) -> Source:
        return read_model(randomized(MODELS[name]()))

    return read


def found(graph: Graph, *codes: str) -> list[str]:
    """The layers of the operators `codes`, in execution order."""
    return [op.layer for _, op in graph.ops() if not codes or op.code in codes]


def nameless(graph: Graph, names: bool = False) -> Graph:
    """`graph` with tensor names that tell nothing, and no layers."""
    subgraphs = []
    for number, subgraph in enumerate(graph.subgraphs):
        tensors = (t if names else replace(t, name=f"t{number}_{i}") for i, t in enumerate(subgraph.tensors))
        ops = (replace(op, layer="") for op in subgraph.ops)
        subgraphs.append(replace(subgraph, tensors=tuple(tensors), ops=tuple(ops)))
    return replace(graph, subgraphs=tuple(subgraphs))


NESTED = ["conv", "block/conv", "block/conv", "depthwise", "shared", "shared", "head"]
KINDS = ["separable", "separable", "grouped", "transposed", "depthwise", "conv1d", "heads", *["distributed/inner"] * 4]


def test_nested_shared_and_folded_layers(source: Any):
    graph = source("nested").graph
    assert found(graph, *LINEAR) == NESTED
    assert found(graph, "MEAN") == ["pool"]
    assert found(graph, "TANH") == ["tanh"]
    assert found(graph, "SOFTMAX") == ["head"]
    assert set(found(graph)) <= set(source("nested").layers)


def test_attention_has_paths(source: Any):
    graph = source("attention").graph
    assert sorted(found(graph, "FULLY_CONNECTED")) == sorted(
        [*(f"mha/{name}" for name in ("query", "key", "value", "attention_output")), "dense"]
    )
    assert set(found(graph, "BATCH_MATMUL", "SOFTMAX")) == {"mha"}
    assert set(found(graph, "RSQRT", "SQUARED_DIFFERENCE")) == {"norm"}
    assert found(graph, "GELU") == ["dense"]
    assert "add" in found(graph, "ADD")
    assert set(found(graph)) <= set(source("attention").layers)


def test_loops_belong_to_their_layer(source: Any):
    graph = source("recurrent").graph
    assert found(graph, "WHILE") == ["gru", "both/backward_lstm", "both/forward_lstm"]
    assert len(graph.subgraphs) == 7
    for subgraph in graph.subgraphs[1:]:  # called `recurrent_1/both_1/forward_lstm_1/while_body`
        path = subgraph.name.replace("_1", "").removeprefix("recurrent/").rpartition("/")[0]
        assert {op.layer for op in subgraph.ops} == {path}
    assert [op.layer for op in graph.main.ops if op.code == "CONCATENATION"] == ["both"]


@pytest.mark.parametrize(("name", "expected"), [("nested", NESTED), ("kinds", KINDS)])
def test_values_alone_find_every_kernel(source: Any, name: str, expected: list[str]):
    """All names are gone: kernels are found through transposes and the factors of batch norms, negative ones too."""
    model, graph = source(name).keras_model, source(name).graph
    assert found(graph, *LINEAR) == expected
    blind = attach_layers(nameless(graph), model)
    assert found(blind, *LINEAR) == expected


def test_values_alone_find_attention_and_loops(source: Any):
    for name in ("attention", "recurrent"):
        expected = found(source(name).graph, "FULLY_CONNECTED")
        blind = attach_layers(nameless(source(name).graph), source(name).keras_model)
        assert found(blind, "FULLY_CONNECTED") == expected
        assert found(blind, "WHILE") == found(source(name).graph, "WHILE")


@pytest.mark.parametrize("name", MODELS)
def test_names_alone_find_every_layer(source: Any, name: str):
    """The weights tell nothing: another model of the same names, with other values."""
    graph = source(name).graph
    other = randomized(MODELS[name](), seed=1)
    expected = [
        layer.removesuffix("/inner") for layer in found(graph)
    ]  # a TimeDistributed opens no scope for its layer
    assert found(attach_layers(nameless(graph, names=True), other)) == expected


@pytest.mark.parametrize("name", MODELS)
def test_names_without_a_model(source: Any, name: str):
    """A .tflite of its own: the kernels get the names that the model would give."""
    graph = layer_from_names(nameless(source(name).graph, names=True))
    assert found(graph, *LINEAR) == [layer.removesuffix("/inner") for layer in found(source(name).graph, *LINEAR)]
    assert set(named_layers(graph)) == set(found(graph))
    assert {info.class_name for info in named_layers(graph).values()} == {""}


def test_a_file_without_names_gets_stable_ones(source: Any):
    graph = nameless(source("nested").graph)
    names = found(layer_from_names(graph))
    assert names == found(layer_from_names(graph))
    assert len(set(names)) == len(names)


def test_equal_layers_are_told_apart_by_name():
    """Two layers of equal values in a row: two operators, one constant."""
    x = layers.Input((6,), name="x")
    first, second = layers.Dense(6, name="first"), layers.Dense(6, name="second")
    model = keras.Model(x, second(layers.Activation("tanh", name="tanh")(first(x))), name="equal")
    second.set_weights(first.get_weights())
    graph = read_model(model).graph
    assert found(graph) == ["first", "tanh", "second"]


def test_merged_layers_are_recorded():
    """Two layers of equal values on one input: the converter keeps one."""
    x = layers.Input((6,), name="x")
    first, second = layers.Dense(6, name="first"), layers.Dense(6, name="second")
    outputs = [layers.Activation(name, name=name)(dense(x)) for name, dense in (("sigmoid", first), ("tanh", second))]
    model = keras.Model(x, layers.Add(name="add")(outputs), name="merged")
    second.set_weights(first.get_weights())
    read = read_model(model)
    assert found(read.graph, "FULLY_CONNECTED") == ["first"]
    assert read.layers["second"] == LayerInfo("second", "Dense", merged_into="first")
    assert read.layers["first"].merged_into == ""
    assert any("'second'" in note and "'first'" in note for note in read.notes)


def test_numbers_in_layer_names_are_not_those_of_scopes():
    """`dense`, `dense_1` and `dense_1_1` all occur; TensorFlow appends further numbers."""
    x = y = layers.Input((4,), name="x")
    names = ["dense", "dense_1", "dense_1_1", "dense_2"]
    for name in names:
        y = layers.Dense(4, activation="tanh", name=name)(y)
    model = randomized(keras.Model(x, y, name="numbered"))
    graph = read_model(model).graph
    assert found(graph, "FULLY_CONNECTED") == names
    other = randomized(keras.models.clone_model(model), seed=3)
    assert found(attach_layers(nameless(graph, names=True), other), "TANH") == names
    assert found(layer_from_names(nameless(graph, names=True)), "FULLY_CONNECTED") == names


def test_tf_keras_names_have_no_numbers():
    import tf_keras

    old = tf_keras.layers
    inner = tf_keras.Sequential([old.Input((6, 6, 4)), old.Conv2D(4, 3, padding="same", name="conv")], name="block")
    image = old.Input((8, 8, 3), name="image")
    x = inner(old.ReLU(name="relu")(inner(old.Conv2D(4, 3, name="conv")(image))))
    shared = old.Dense(4, name="shared")
    x = shared(old.Activation("tanh", name="tanh")(shared(old.GlobalAveragePooling2D(name="pool")(x))))
    model = tf_keras.Model(image, x, name="net")
    read = read_model(model)
    assert found(read.graph, *LINEAR) == ["conv", "block/conv", "block/conv", "shared", "shared"]
    assert found(read.graph, "MEAN", "TANH") == ["pool", "tanh"]
    assert found(attach_layers(nameless(read.graph), model), *LINEAR) == found(read.graph, *LINEAR)


def test_operations_outside_of_layers_keep_their_own_name():
    x = layers.Input((3, 4), batch_size=1, name="x")
    y = keras.ops.matmul(x, keras.ops.transpose(layers.Dense(4, name="dense")(x), (0, 2, 1)))
    graph = read_model(keras.Model(x, layers.Softmax(name="softmax")(y), name="outside")).graph
    (product,) = (layer for layer in found(graph, "BATCH_MATMUL"))
    assert "matmul" in product.lower()
    assert found(graph, "FULLY_CONNECTED", "SOFTMAX") == ["dense", "softmax"]


@pytest.mark.parametrize("last", ["dropout", "activation", "inner model"])
def test_outputs_belong_to_the_layer_that_computes_them(last: str):
    """Output tensors are called `StatefulPartitionedCall:0`; idle layers, fused ones and inner models hide theirs."""
    a, b = layers.Input((4,), name="a"), layers.Input((4,), name="b")
    x = layers.Add(name="add")([a, b])
    if last == "dropout":
        x = layers.Dropout(0.5, name="end")(x)
    elif last == "activation":
        x = layers.ReLU(name="end")(x)
    else:
        c, d = layers.Input((4,)), layers.Input((4,))
        x = keras.Model([c, d], layers.Add(name="add")([c, d]), name="end")([a, b])
    graph = read_model(keras.Model([a, b], x, name="ends")).graph
    assert found(graph) == ["end/add" if last == "inner model" else "add"]


def test_the_table_has_paths_and_unique_names(source: Any):
    table = layer_table(source("nested").keras_model)
    assert table["block/conv"] == LayerInfo("block/conv", "Conv2D")
    assert table["conv"] == LayerInfo("conv", "Conv2D")
    assert table["relu"] == LayerInfo("block/relu", "ReLU")  # only one layer is called so
    assert table["block"] == LayerInfo("block", "Sequential")
    assert "norm" in table
    assert "image" not in table
    assert {name: info.class_name for name, info in layer_table(source("recurrent").keras_model).items()} == {
        "gru": "GRU",
        "both": "Bidirectional",
        "both/forward_lstm": "LSTM",
        "both/backward_lstm": "LSTM",
        "forward_lstm": "LSTM",
        "backward_lstm": "LSTM",
        "head": "Dense",
    }


def test_tracing_twice_changes_nothing(source: Any):
    again = trace_layers(source("nested").graph, source("nested").keras_model)
    assert again.graph.main.ops == source("nested").graph.main.ops
    assert again.layers == source("nested").layers


@pytest.mark.parametrize(
    ("name", "code", "expected"),
    [
        ("net_1/block_3/relu_1/Relu;net_1/block_3/conv_1/convolution", "CONV_2D", "block/conv"),
        ("net_1/block_3/relu_1/Relu;net_1/block_3/conv_1/convolution", "", "block/relu"),
        ("StatefulPartitionedCall/net_1/conv_1/while/body/_1/MatMul", "", "conv"),
        ("net_1/conv_1_1/MatMul", "", ""),
        ("net_1/MatMul", "", ""),
        ("arith.constant3", "", ""),
        ("StatefulPartitionedCall:0", "", ""),
    ],
    ids=["of two the computing one", "of two the first", "loops", "no such layer", "the model", "made up", "output"],
)
def test_names(source: Any, name: str, code: str, expected: str):
    resolver = Resolver(layer_tree(source("nested").keras_model), suffixed=True)
    assert resolver.layer(name, code) == expected


def test_parts_of_a_name():
    assert parts("a/b/C;d/E;") == [(["a", "b"], "C"), (["d"], "E")]


@given(st.integers(0, 2**32 - 1), st.sampled_from([(7, 5), (3, 11), (13, 2)]))
def test_rows_agree_up_to_a_factor(seed: int, shape: tuple[int, int]):
    """The sides are coprime, so that a transposed comparison cannot pass."""
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal(shape)
    factors = rng.uniform(0.1, 10, (shape[0], 1)) * rng.choice([-1, 1], (shape[0], 1))
    factors[0] = 0  # a channel that a batch norm switched off
    assert aligned((matrix * factors).astype(np.float32), matrix.astype(np.float32))
    assert not aligned(matrix, matrix[::-1])
    assert not aligned(matrix, np.zeros(shape))  # nothing to tell by
    bent, row = matrix.copy(), matrix[-1]
    aside = rng.standard_normal(shape[1])
    aside -= (aside @ row) / (row @ row) * row
    bent[-1] += 0.1 * np.linalg.norm(row) / np.linalg.norm(aside) * aside  # turned by 6 degrees
    assert not aligned(matrix, bent)
