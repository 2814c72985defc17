"""Models of several signatures: each is quantized on its own data, with integer borders, and all are in one file."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tfq_fine as tfq
from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_converters.graph_edit.subgraphs import entry, together
from tfq_converters.runtime.runner import Runner

RNG = np.random.default_rng(0)


class Coder(tf.Module):
    """An encoder, a decoder with a loop, and a signature that takes two inputs; all share weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = tf.Variable(RNG.normal(size=(6, 9)).astype(np.float32))
        self.last = tf.Variable(RNG.normal(size=(9, 6)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec((1, 6), tf.float32)])
    def encode(self, x: Any) -> Any:
        return {"code": tf.nn.relu(x @ self.first)}

    @tf.function(input_signature=[tf.TensorSpec((1, 9), tf.float32)])
    def decode(self, code: Any) -> Any:
        _, code = tf.while_loop(lambda n, v: n < 3, lambda n, v: (n + 1, v * 0.5), (0, code))
        return {"x": code @ self.last}

    @tf.function(input_signature=[tf.TensorSpec((1, 6), tf.float32), tf.TensorSpec((1, 9), tf.float32)])
    def both(self, x: Any, code: Any) -> Any:
        return {"sum": x @ self.first + code}


@cache
def model() -> Coder:
    return Coder()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("coder"))
    coder = model()
    tf.saved_model.save(coder, folder, signatures={"encode": coder.encode, "decode": coder.decode, "both": coder.both})
    return folder


def data() -> dict[str, Any]:
    x = RNG.normal(size=(40, 6)).astype(np.float32)
    code = np.stack([model().encode(row[None])["code"].numpy()[0] for row in x])
    return {"encode": x, "decode": {"code": code}, "both": {"x": x, "code": code}}


def dtypes(graph: Graph) -> dict[str, list[str]]:
    return {
        s.key: [graph.subgraphs[s.subgraph].tensors[t].dtype for _, t in (*s.inputs, *s.outputs)]
        for s in graph.signatures
    }


def test_each_is_quantized_on_its_own_data(saved: str) -> None:
    given = data()
    result = tfq.quantize(saved, "full_int8", given)
    runner = Runner(result.content)
    inputs = {
        "encode": {"x": given["encode"][:1]},
        "both": {"x": given["encode"][:1], "code": given["both"]["code"][:1]},
    }
    inputs["decode"] = {"code": given["decode"]["code"][:1]}
    for key, values in inputs.items():
        (expected,) = getattr(model(), key)(**values).values()
        (found,) = runner.run_signature(key, values).values()
        assert np.abs(found - expected.numpy()).max() < 0.05 * np.abs(expected.numpy()).max()
    modes = {row.mode for row in result.report.rows if row.code == "FULLY_CONNECTED"}
    assert modes == {"integer"}


def test_borders_are_integers_everywhere(saved: str) -> None:
    result = tfq.quantize(saved, "full_int8", data(), input_type="int8", output_type="int8")
    assert {kind for kinds in dtypes(result.graph).values() for kind in kinds} == {"int8"}
    assert not any("compute in float" in note for note in result.report.notes)


def test_data_of_the_first_alone_is_reported(saved: str) -> None:
    result = tfq.quantize(saved, "full_int8", data()["encode"], input_type="int8", output_type="int8")
    first = min(result.graph.signatures, key=lambda signature: signature.subgraph).key
    kinds = dtypes(result.graph)
    assert set(kinds[first]) == {"int8"}
    assert all(set(found) == {"float32"} for key, found in kinds.items() if key != first)
    (note,) = [note for note in result.report.notes if "compute in float" in note]
    assert all(repr(key) in note for key in kinds)


def test_a_missing_signature_is_named(saved: str) -> None:
    given = {key: value for key, value in data().items() if key != "decode"}
    with pytest.raises(TfqError, match="data by signature lacks 'decode'"):
        tfq.quantize(saved, "full_int8", given)


def test_bad_data_names_its_signature(saved: str) -> None:
    with pytest.raises(TfqError, match=r"signature 'decode': .*expected shape"):
        tfq.quantize(saved, "full_int8", {**data(), "decode": np.zeros((4, 8), np.float32)})


def test_entries_apart_and_together_compute_the_same(saved: str) -> None:
    graph = tfq.quantize(saved, "float16").graph
    parts = [entry(graph, number) for number in sorted({s.subgraph for s in graph.signatures})]
    whole = together(parts)
    assert {s.key for s in whole.signatures} == {s.key for s in graph.signatures}
    assert sum(len(part.subgraphs) for part in parts) == len(whole.subgraphs)
    given = data()
    values = {"code": given["decode"]["code"][:1]}
    before, after = (Runner(flatbuffer.write(each)).run_signature("decode", values)["x"] for each in (graph, whole))
    np.testing.assert_array_equal(before, after)


def test_rules_hold_in_the_signatures_that_they_are_about(saved: str) -> None:
    """A rule that names an operator of one signature is none of the others' business."""
    plain = tfq.quantize(saved, "full_int8", data())
    layer = next(row.layer for row in plain.report.rows if row.code == "FULLY_CONNECTED")
    recipe = tfq.RECIPES["full_int8"].with_rules(tfq.Rule(None, layer=layer))
    result = tfq.quantize(saved, recipe, data())
    kept = {row.layer for row in result.report.rows if row.reason == "the recipe keeps it float"}
    assert kept == {layer}
    with pytest.raises(tfq.TfqError, match="rule layer='absent' matches nothing in the model"):
        tfq.quantize(saved, tfq.RECIPES["full_int8"].with_rules(tfq.Rule(None, layer="absent")), data())
