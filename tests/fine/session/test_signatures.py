"""Models of several signatures: each is quantized on its own data, with integer borders, and all are in one file."""

from dataclasses import replace
from functools import cache
from pathlib import Path
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
from tfq_fine.api import Result
from tfq_fine.calibration.signature_data import entries
from tfq_fine.cli import main
from tfq_fine.numerics.errors import ErrorSums
from tfq_fine.report import Report, TaskResult

pytestmark = pytest.mark.usefixtures("conversions_once")
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

    def encode_all(self, x: np.ndarray) -> np.ndarray:
        found: np.ndarray = tf.nn.relu(x @ self.first).numpy()
        return found

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


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    return data()


@pytest.fixture(scope="module")
def result(saved: str, given: dict[str, Any]) -> Result:
    return tfq.quantize(saved, "full_int8", given, transforms=None)


@pytest.fixture(scope="module")
def whole(saved: str, given: dict[str, Any]) -> tfq.Statistics:
    return tfq.calibrate(saved, given)


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


def test_missing_and_unknown_signatures_are_named_at_once(saved: str) -> None:
    given = {"encod" if key == "encode" else key: value for key, value in data().items() if key != "decode"}
    said = r"data by signature names 'encod' \(did you mean 'encode'\?\), lacks .*'decode'.*; the model has "
    content = tfq.quantize(saved).content
    for call in (tfq.quantize, tfq.calibrate, lambda model, data: tfq.verify(model, content, data)):
        with pytest.raises(TfqError, match=said):
            call(saved, data=given)


def test_each_is_calibrated_and_quantized_by_its_statistics(
    saved: str, given: dict[str, Any], whole: tfq.Statistics, result: Result, tmp_path: Path
) -> None:
    """Halves that are saved, loaded and merged or resumed are the whole, and give the file that the data gives."""
    halves = [{key: _rows(value, rows) for key, value in given.items()} for rows in (slice(17), slice(17, None))]
    first, second = (tfq.calibrate(saved, half) for half in halves)
    first.save(tmp_path / "first.npz")
    loaded = tfq.Statistics.load(tmp_path / "first.npz")
    assert loaded == first != second and loaded.samples == 3 * 17
    assert set(whole.signatures) == {"encode", "decode", "both"}
    for found in (loaded.merge(second), tfq.calibrate(saved, halves[1], resume=loaded)):
        assert found.samples == 120
        for key, part in found.signatures.items():
            assert part.ranges == whole.signatures[key].ranges and part.histograms == whole.signatures[key].histograms
            assert len(part.kept) == 40  # all of so few; the file is decided on them
    assert "signature 'decode': 40 samples" in str(whole)
    assert tfq.quantize(saved, "full_int8", statistics=whole, transforms=None).content == result.content


def _rows(value: Any, rows: slice) -> Any:
    return {name: array[rows] for name, array in value.items()} if isinstance(value, dict) else value[rows]


def test_statistics_of_one_signature_and_by_signature_do_not_mix(
    saved: str, given: dict[str, Any], whole: tfq.Statistics
) -> None:
    every, one = whole, tfq.calibrate(saved, given["encode"])
    with pytest.raises(TfqError, match="statistics by signature and statistics of one signature cannot be merged"):
        one.merge(every)
    with pytest.raises(TfqError, match="the data is by signature and the statistics are not"):
        tfq.quantize(saved, "full_int8", given, statistics=one)
    with pytest.raises(TfqError, match="the statistics are by signature and the data is not"):
        tfq.quantize(saved, "full_int8", given["encode"], statistics=every)
    with pytest.raises(TfqError, match="resume has statistics of several signatures, data is of one"):
        tfq.calibrate(saved, given["encode"], resume=every)
    fewer = tfq.Statistics.of_signatures({"encode": every.signatures["encode"]})
    with pytest.raises(TfqError, match=r"statistics by signature lacks .*'decode'"):
        tfq.quantize(saved, "full_int8", statistics=fewer)


def test_the_parts_of_a_result(saved: str, result: Result) -> None:
    inputs = {key: len(part.quantized.graph.main.inputs) for key, part in result.signatures.items()}
    assert inputs == {"encode": 1, "decode": 1, "both": 2}
    assert all(part.plan and part.statistics is not None for part in result.signatures.values())
    for name in ("plan", "quantized", "statistics"):
        with pytest.raises(TfqError, match=rf"'encode'.* has its own {name}; use result.signatures\['\w+'\].{name}"):
            getattr(result, name)
    alone = tfq.quantize(saved, "dynamic_int8")  # as one graph
    assert set(alone.signatures) == set(inputs) and alone.signatures["decode"].plan is alone.plan


def test_verify_reports_each(saved: str, given: dict[str, Any], result: Result, tmp_path: Path) -> None:
    content = result.content
    labels = {"encode": np.asarray(model().encode_all(given["encode"]).argmax(axis=1))}
    wrong = {"encode": (labels["encode"] + 1) % 9}
    report = tfq.verify(saved, content, given, labels, metric={"encode": "top1"}, latency=False)
    assert report.samples == 120 and set(report.signatures) == {"encode", "decode", "both"}
    outputs = {s.key: len(s.outputs) for s in flatbuffer.read(content).signatures}
    assert [o.name.partition(": ")[0] for o in report.outputs] == [
        key for key in report.signatures for _ in range(outputs[key])
    ]
    assert report.signatures["encode"].task == report.tasks["encode"] and report.tasks["encode"].float_value == 1.0
    for key, part in report.signatures.items():  # against runs of the signatures of the real file
        assert part.outputs[0].sqnr_db == pytest.approx(_sqnr(key, given[key], content), abs=1e-3)
    assert Report.from_json(report.to_json()) == report
    text = report.table()
    assert "Signature decode: 40 samples" in text and text.count("Bytes: the file") == 1
    assert f"{len(content):,}" in text
    report.save_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert all(f"Signature {key}" in page for key in given)
    bad = replace(report.signatures["encode"], task=TaskResult("top1", 1.0, 0.5, 0.5))
    fallen = replace(report, signatures={**report.signatures, "encode": bad})
    assert not fallen.passed(0.1) and set(fallen.fell(0.1)) == {"encode"} and fallen.passed(0.5)
    assert (
        tfq.verify(saved, content, given, wrong, metric={"encode": "top1"}, latency=False, layers=False)
        .tasks["encode"]
        .float_value
        == 0.0
    )


def _sqnr(key: str, given: Any, content: bytes) -> float:
    inputs = given if isinstance(given, dict) else {"x": given}
    runner, sums = Runner(content), ErrorSums()
    for n in range(40):
        row = {name: array[n : n + 1] for name, array in inputs.items()}
        (expected,), (found,) = getattr(model(), key)(**row).values(), runner.run_signature(key, row).values()
        sums += ErrorSums.of(expected.numpy(), found)
    return sums.sqnr_db


def test_verify_of_signatures_that_are_not_there(saved: str, given: dict[str, Any], result: Result) -> None:
    content = result.content
    graph = flatbuffer.read(content)
    less = flatbuffer.write(replace(graph, signatures=tuple(s for s in graph.signatures if s.key == "encode")))
    with pytest.raises(TfqError, match=r"the quantized file lacks signatures .*'decode'.* it has encode"):
        tfq.verify(saved, less, given)
    with pytest.raises(TfqError, match="labels by signature names 'y'"):
        tfq.verify(saved, content, given, {"y": np.zeros(40)}, metric="top1")
    with pytest.raises(TfqError, match="the labels are not"):
        tfq.verify(saved, content, given, np.zeros(40), metric="top1")
    with pytest.raises(TfqError, match=r"signature '\w+': metric 'top1' needs labels"):
        tfq.verify(saved, content, given, metric="top1")
    (first, *others) = entries(flatbuffer.read(content)).values()
    (note,) = [n for n in tfq.verify(saved, content, given[first], latency=False).notes if "not compared" in n]
    assert all(repr(key) in note for key in others) and repr(first) not in note


def test_the_command_takes_values_by_signature(
    saved: str, given: dict[str, Any], whole: tfq.Statistics, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.zeros(40, np.int64)
    np.savez(tmp_path / "encode.npz", x=given["encode"], labels=labels)
    np.savez(tmp_path / "decode.npz", **given["decode"])
    np.savez(tmp_path / "both.npz", **given["both"])
    options = [part for key in given for part in ("--data", f"{key}={tmp_path / key}.npz")]
    statistics, output = str(tmp_path / "s.npz"), str(tmp_path / "q.tflite")
    verifying = ["verify", saved, output, *options, "--no-latency", "--no-layers", "--metric", "encode=top1"]
    assert _exit_code("calibrate", saved, *options, "--output", statistics) == 0
    assert tfq.Statistics.load(statistics) == whole
    quantizing = ["quantize", saved, "--recipe", "full_int8", "--output", output]
    assert _exit_code(*quantizing, "--statistics", statistics) == 0
    capsys.readouterr()
    assert _exit_code(*verifying, "--max-drop", "50%", "--report", str(tmp_path / "report.json")) == 0
    report = Report.from_json((tmp_path / "report.json").read_text())
    assert set(report.signatures) == set(given) and "Signature both" in capsys.readouterr().out
    worse = tfq.quantize(saved, "weight_only_int2", given, transforms=None)
    worse.save(output)
    np.savez(tmp_path / "encode.npz", x=given["encode"], labels=model().encode_all(given["encode"]).argmax(axis=1))
    assert _exit_code(*verifying, "--max-drop", "0.1%") == 1
    assert "top1 of signature 'encode' got worse by" in capsys.readouterr().err
    assert _exit_code(*quantizing, *options[:2], "--data", "x") == 2
    assert "several are given by signature, as KEY=VALUE; found 'x'" in capsys.readouterr().err


def _exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    code = ended.value.code
    return code if isinstance(code, int) else 0


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
