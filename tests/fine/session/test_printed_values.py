"""What values print as: one to ten lines, however large the model; pages in notebooks; rows as plain dicts."""

import html
import json
import re
import sys
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfq_fine as tfq
from support.graphs import images, small_cnn
from support.nets import Net
from tfq_converters import flatbuffer
from tfq_converters.brief import brief, first_lines
from tfq_fine.progress import NotebookProgress, in_notebook, stages


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    """One public value of each kind, of a network of 20 convolutions."""
    net = Net(1, 9, 11, 3)
    tensor = 0
    for channels in (5, 7, 3) * 7:
        tensor = net.conv(tensor, channels)
    graph = net.graph(net.dense(net.mean(tensor), 5))
    model, data = flatbuffer.write(graph), np.random.default_rng(0).normal(size=(12, 9, 11, 3)).astype(np.float32)
    result = tfq.quantize(model, "full_int8", data, transforms=None)
    small, few = flatbuffer.write(small_cnn()), images(8)
    rules = [tfq.Rule(None, op="MEAN")] * 30
    return {
        "result": result,
        "part": next(iter(result.signatures.values())),
        "graph": result.graph,
        "subgraph": result.graph.main,
        "tensor": max(result.graph.main.tensors, key=lambda each: 0 if each.data is None else each.data.size),
        "numbers": result.quantized,
        "plan": result.plan,
        "statistics": tfq.calibrate(model, data),
        "report": result.report,
        "row": result.report.rows[0],
        "verification": tfq.verify(model, result, data, latency=False),
        "search": tfq.search(small, few, max_bytes="95%"),
        "analysis": tfq.analyze(small, few),
        "recipe": tfq.RECIPES["full_int8"].with_rules(*rules),
        "recipes": tfq.RECIPES,
        "spec": tfq.OpSpec("integer", tfq.WeightSpec(4, tfq.Blocks(32)), tfq.ActivationSpec(16)),
        "data": tfq.CalibrationData(list(data), num_samples=10),
    }


def test_values_print_in_ten_lines(values: dict[str, Any]):
    for name, value in values.items():
        lines = repr(value).splitlines()
        assert 1 <= len(lines) <= 10, f"{name}: {len(lines)} lines"
        assert max(map(len, lines)) <= 300, name  # a spec is one line, and complete: it names what is kept on disk
    assert len(repr(values["result"])) < 300


def test_what_is_left_out_is_counted():
    fields = [(f"field_{n}", str) for n in range(13)]
    many = make_dataclass("Many", fields, namespace={"__repr__": brief})
    lines = repr(many(*(f"text {n}" for n in range(13)))).splitlines()
    assert lines[0] == "Many(" and lines[1] == "  field_0='text 0'," and lines[-1] == ")"
    assert len(lines) == 10 and lines[-2] == "  ... 6 more fields,"
    assert first_lines("a\n" * 10).splitlines() == ["a"] * 10
    assert first_lines("a\n" * 12).splitlines() == [*["a"] * 9, "... 3 more lines"]


def test_a_result_says_what_matters(values: dict[str, Any]):
    result, text = values["result"], repr(values["result"])
    assert "full_int8" in text and f"{len(result.content):,} bytes" in text
    sqnr = result.report.verdict.outputs[0].sqnr
    assert f"{sqnr:.1f} dB" in text and "12 samples" in text


def test_only_what_is_not_as_by_default_is_printed():
    assert repr(tfq.CalibrationData()) == "CalibrationData()"
    assert repr(tfq.CalibrationData(np.zeros((3, 2)), 5)) == "CalibrationData(data=<float64 [3, 2]>, num_samples=5)"
    assert brief(tfq.Recipe("mine", None)) == "Recipe(name='mine', default=None)"


def test_values_show_pages_in_notebooks(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    for name in ("verification", "search"):
        frame = values[name]._repr_html_()
        page = html.unescape(re.fullmatch(r'<iframe [^>]*srcdoc="([^"]*)"[^>]*></iframe>', frame, re.S).group(1))
        assert page.startswith("<!DOCTYPE html>") and "</table>" in page
    assert all(hasattr(values[name], "_repr_html_") for name in ("result", "report", "analysis"))
    monkeypatch.setitem(sys.modules, "jinja2", None)
    text = values["result"]._repr_html_()
    assert text.startswith("<pre>") and "pip install" in text and "[report]" in text


def test_rows_are_plain_dicts(values: dict[str, Any]):
    report, sources = values["report"], ("verification", "analysis", "search")
    for records in (report.op_rows(), *(values[name].layer_rows() for name in sources)):
        assert records and all(list(record) == list(records[0]) for record in records)
        assert json.loads(json.dumps(records)) == records
    assert [record["name"] for record in report.op_rows()] == [row.name for row in report.rows]
    assert {record["sqnr_output"] for record in report.op_rows()} & set(dict(report.layer_error).values())
    analysis, search = values["analysis"], values["search"]
    assert [record["layer"] for record in analysis.layer_rows()] == [row.layer for row in analysis.layers]
    assert {record["chosen"] for record in search.layer_rows()} == {row.chosen for row in search.layers}


@pytest.mark.parametrize("given", ["int8", np.int8, np.dtype("int8")])
def test_types_by_name_or_by_object(given: Any):
    result = tfq.quantize(
        flatbuffer.write(small_cnn()), "full_int8", images(8), input_type=given, output_type=given, transforms=None
    )
    main = result.graph.main
    assert [main.tensors[t].dtype for t in (*main.inputs, *main.outputs)] == ["int8", "int8"]


def test_types_of_tensorflow():
    import tensorflow as tf

    model = flatbuffer.write(small_cnn())
    result = tfq.quantize(model, "full_int8", images(8), input_type=tf.uint8, transforms=None)
    assert result.graph.main.tensors[result.graph.main.inputs[0]].dtype == "uint8"
    with pytest.raises(tfq.TfqError, match="input_type='int32': expected one of float32, int8, uint8, int16"):
        tfq.quantize(model, "full_int8", images(8), input_type=tf.int32)


def test_dir_lists_what_is_public():
    assert dir(tfq) == sorted([*tfq.__all__, "layers", "tfmot"])


class Shown:
    """Stands for the display below a cell."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def update(self, data: dict[str, str], raw: bool) -> None:
        self.texts.append(data["text/plain"])


def test_progress_is_drawn_below_the_cell(monkeypatch: pytest.MonkeyPatch):
    assert not in_notebook()
    shown = Shown()
    monkeypatch.setattr("tfq_fine.progress.in_notebook", lambda: True)
    monkeypatch.setattr("tfq_fine.progress.NotebookProgress", lambda: NotebookProgress(shown))
    with stages() as job, job.stage("calibrating", 40) as advance:
        for _ in range(4):
            advance(10)
    assert any("calibrating" in text and "40/40" in text for text in shown.texts)
    assert shown.texts[-1] == ""  # nothing is left
    shown.texts.clear()
    with stages(False) as job, job.stage("calibrating", 40):
        pass
    assert shown.texts == []


def test_there_is_one_logger_for_each_package():
    """The command line configures absl, which shows what loggers of the packages say; no other module knows it."""
    root = Path(tfq.__file__).parents[1]
    for package, folder in {
        "tfq_fine": root / "tfq_fine",
        "tfq_converters": root / "converters/tfq_converters",
    }.items():
        for path in folder.rglob("*.py"):
            text = path.read_text()
            assert "absl" not in text or path.parent.name == "cli", path
            assert set(re.findall(r"getLogger\((.*?)\)", text)) <= {f'"{package}"'}, path
