"""Reading a float model and writing it back changes nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from support.keras_models import MODELS, inputs_of, run, source, two_signatures
from tfq_converters import flatbuffer
from tfq_converters.graph import Tensor
from tfq_converters.graph_edit.subgraphs import with_main
from tfq_converters.reading.reader import read_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """(SavedModel folder of two signatures, its model, its encoder)."""
    keras.utils.set_random_seed(2)
    model, encoder, archive = two_signatures()
    path = tmp_path_factory.mktemp("saved") / "codec"
    archive.write_out(str(path), verbose=False)
    return path, model, encoder


@pytest.mark.parametrize("kernels", ["default", "reference"])
@pytest.mark.parametrize("name", MODELS)
def test_reading_and_writing_changes_no_output_bit(name: str, kernels: str):
    graph, content = source(name).graph, source(name).content
    written = flatbuffer.write(graph)
    for seed in range(2):
        inputs = inputs_of(graph, seed=seed)
        before, after = run(graph, content, inputs, kernels), run(flatbuffer.read(written), written, inputs, kernels)
        assert before.keys() == after.keys()
        for output, values in before.items():
            assert values.tobytes() == after[output].tobytes(), output


@pytest.mark.parametrize("samples", [1, 3])
def test_a_dynamic_batch_stays_dynamic(samples: int):
    found = source("cnn")
    assert found.graph.main.tensors[found.graph.main.inputs[0]].dynamic_shape == (-1, 8, 8, 3)
    written = flatbuffer.write(found.graph)
    inputs = inputs_of(found.graph, samples)
    before, after = run(found.graph, found.content, inputs), run(flatbuffer.read(written), written, inputs)
    assert before["output_0"].shape == (samples, 5)
    assert before["output_0"].tobytes() == after["output_0"].tobytes()


def described(tensor: Tensor) -> tuple:
    data = None if tensor.data is None else (tensor.data.dtype.str, tensor.data.shape, tensor.data.tobytes())
    return replace(tensor, data=None), data


@pytest.mark.parametrize("name", MODELS)
def test_writing_keeps_everything_that_was_read(name: str):
    before = flatbuffer.read(source(name).content)
    after = flatbuffer.read(flatbuffer.write(before))
    assert after.signatures == before.signatures
    assert after.metadata == before.metadata
    for old, new in zip(before.subgraphs, after.subgraphs, strict=True):
        assert (new.name, new.inputs, new.outputs) == (old.name, old.inputs, old.outputs)
        assert [described(tensor) for tensor in new.tensors] == [described(tensor) for tensor in old.tensors]
        for old_op, new_op in zip(old.ops, new.ops, strict=True):
            assert str(new_op) == str(old_op)  # options hold arrays, which == compares by element


def test_a_shared_constant_stays_shared():
    graph = flatbuffer.read(flatbuffer.write(source("shared").graph))
    first, second = (op for op in graph.main.ops if op.code == "FULLY_CONNECTED")
    assert graph.main.tensors[first.inputs[1]].data is graph.main.tensors[second.inputs[1]].data
    kernels = [tensor for tensor in graph.main.tensors if tensor.is_constant and tensor.shape == (6, 6)]
    assert len({id(tensor.data) for tensor in kernels}) == 1


def test_the_state_of_a_fused_lstm_is_a_variable():
    graph = source("tf_keras_lstm").graph
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in {op.code for _, op in graph.ops()}
    assert sum(tensor.is_variable for tensor in graph.main.tensors) == 2  # hidden and cell state


def test_moving_a_subgraph_to_the_front_keeps_what_refers_to_it():
    """The loop of an LSTM runs as before when its body stands first, and the entry second."""
    graph = source("lstm").graph
    assert len(graph.subgraphs) == 3
    moved = with_main(graph, 2)
    assert [subgraph.name for subgraph in moved.subgraphs] == [graph.subgraphs[number].name for number in (2, 0, 1)]
    (loop,) = (op for op in moved.subgraphs[1].ops if op.code == "WHILE")
    assert (loop.option("condSubgraphIndex"), loop.option("bodySubgraphIndex")) == (2, 0)
    assert [signature.subgraph for signature in moved.signatures] == [1]
    back = with_main(moved, 1)
    content = flatbuffer.write(back)
    inputs = inputs_of(graph)
    before, after = run(graph, source("lstm").content, inputs), run(flatbuffer.read(content), content, inputs)
    assert before["output_0"].tobytes() == after["output_0"].tobytes()


def test_both_signatures_survive(folder: tuple[Path, Any, Any]):
    path, model, encoder = folder
    found = read_model(str(path))
    assert {signature.key: signature.subgraph for signature in found.graph.signatures} == {
        "serving_default": 0,  # interpreters start here
        "encode": 1,
    }
    for graph in (found.graph, with_main(found.graph, 1)):
        content = flatbuffer.write(graph)
        inputs = inputs_of(graph, samples=3)
        (output,) = run(flatbuffer.read(content), content, inputs).values()
        expected = np.asarray((model if graph is found.graph else encoder)(inputs["x"]))
        np.testing.assert_allclose(output, expected, rtol=0, atol=1e-6)  # order of float additions
    assert found.keras_model is None
    assert [op.layer for op in found.graph.main.ops] == ["encoder", "decoder"]
