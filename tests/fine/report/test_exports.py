"""Layers as rows, as CSV that the csv module reads back, and as node data for the graph that Model Explorer makes."""

import csv
import dataclasses
import io
import json
import math
from typing import Any

import numpy as np
import pytest

import tfq_fine as tfq
from tfq_converters.errors import TfqError
from tfq_fine.report import FileSize, LayerError, Report

keras = pytest.importorskip("keras")
ROWS = (
    LayerError("m/a;m/b", "a", "CONV_2D", "int8", 20.0, 0.5, own_db=23.0, weights_db=26.0),
    LayerError('say "c", d', "", "ADD", "int8", math.inf, 0.0),
    LayerError("m/e", "e", "CONV_2D", "float32", math.nan, math.nan, own_db=-1000.0, weights_db=None),
)
WEIGHTS = (LayerError("m/a/w", "a", "CONV_2D", "int4", 30.0, 0.1),)
REPORT = Report(3, (), FileSize(20), FileSize(10), layers=ROWS, weights=WEIGHTS)


def test_csv_is_read_back(tmp_path):
    REPORT.save_csv(tmp_path / "layers.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "layers.csv").read_text())))
    assert [row["name"] for row in rows] == [row.name for row in ROWS]
    assert [float(row["sqnr_db"]) for row in rows[:2]] == [20.0, math.inf]
    assert [row["own_db"] for row in rows] == ["23.0", "", "-1000.0"]
    assert [row["weights"] for row in rows] == ["int4", "", ""]
    dataclasses.replace(REPORT, layers=()).save_csv(tmp_path / "none.csv")
    assert (tmp_path / "none.csv").read_text().split("\n")[0] == (tmp_path / "layers.csv").read_text().split("\n")[0]


def _results(report, measure, tmp_path):
    report.save_node_data(tmp_path / "data.json", measure)
    return {k: v["value"] for k, v in json.loads((tmp_path / "data.json").read_text())["results"].items()}


def test_node_data_holds_finite_numbers(tmp_path):
    assert _results(REPORT, "sqnr", tmp_path) == {"m/a;m/b": 20.0, 'say "c", d': 120.0, "m/e": -20.0}
    assert _results(REPORT, "own", tmp_path) == {"m/a;m/b": 23.0, "m/e": -20.0}
    assert _results(REPORT, "bits", tmp_path) == {"m/a;m/b": 4.0}
    with pytest.raises(TfqError, match="sqnr, own, bits, found 'speed'"):
        REPORT.save_node_data(tmp_path / "data.json", "speed")
    with pytest.raises(TfqError, match="layers=True"):
        dataclasses.replace(REPORT, layers=()).save_node_data(tmp_path / "data.json")


def test_model_explorer_finds_the_operators(tmp_path):
    """Keys are names of tensors in the graph that Model Explorer's own reader of .tflite makes."""
    adapters: Any = pytest.importorskip("model_explorer.builtin_tflite_flatbuffer_adapter")
    builder = pytest.importorskip("model_explorer.node_data_builder")
    keras.utils.set_random_seed(3)
    layers = keras.layers
    model = keras.Sequential([keras.Input((9,)), layers.Dense(7, "relu"), layers.Dense(5), layers.Softmax()])
    x = np.random.default_rng(1).normal(size=(11, 9)).astype(np.float32)
    result = tfq.quantize(model, "full_int8", x, layers=True)
    result.save(tmp_path / "model.tflite")
    found = _results(result.report, "own", tmp_path)
    content = json.loads((tmp_path / "data.json").read_text())
    read = builder.GraphNodeData(
        results={key: builder.NodeDataResult(**value) for key, value in content["results"].items()},
        gradient=[builder.GradientItem(**item) for item in content["gradient"]],
        name=content["name"],
    )
    assert json.loads(read.to_json_string())["results"] == content["results"]
    graphs = adapters.BuiltinTfliteFlatbufferAdapter().convert(str(tmp_path / "model.tflite"), {})
    text = json.dumps(graphs, default=lambda value: getattr(value, "__dict__", str(value)))
    names = {item["value"] for item in _items(json.loads(text)) if item.get("key") == "tensor_name"}
    assert len(found) == 3
    assert set(found) <= names


def _items(value):
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _items(part)
