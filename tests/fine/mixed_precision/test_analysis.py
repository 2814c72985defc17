"""The analysis of layers: planted faults are told."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tfq_fine as tfq
from support.graphs import images, small_cnn
from tfq_converters import flatbuffer
from tfq_converters.quantized import QuantizedGraph
from tfq_converters.realize import realize
from tfq_converters.runtime import file_runs
from tfq_fine.calibration import CalibrationData, Representative
from tfq_fine.cli.program import main
from tfq_fine.mixed_precision.analysis import INSIDE, layer_errors
from tfq_fine.mixed_precision.conditions import Conditions
from tfq_fine.mixed_precision.exploration import explored
from tfq_fine.mixed_precision.units import candidates_of
from tfq_fine.progress import Stages
from tfq_fine.verification.layer_errors import activation_errors

FAULTY = 0  # the operator whose weights get an outlier channel and a dead one


def faulty_cnn() -> bytes:
    """The small CNN whose first convolution has one channel 50 times as large as the others, and one of zeros."""
    graph = small_cnn()
    tensors = list(graph.main.tensors)
    weight = tensors[1].constant.copy()
    weight[3] *= 50
    weight[5] = 0
    tensors[1] = replace(tensors[1], data=weight)
    return flatbuffer.write(replace(graph, subgraphs=(replace(graph.main, tensors=tuple(tensors)),)))


@pytest.fixture(scope="module")
def analysis() -> Any:
    return tfq.analyze(faulty_cnn(), images(23))


def test_a_planted_fault_is_told(analysis: Any):
    conv, depthwise, dense = analysis.layers
    assert "1 of 7 channels are dead" in conv.reasons and "one scale for unlike channels" in conv.reasons
    assert any("outlier channels" in reason for reason in conv.reasons)
    assert not any("dead" in reason or "outlier" in reason for row in (depthwise, dense) for reason in row.reasons)
    steps = [conv.sqnr_db[f"8 bits {name}"] for name in ("per tensor", "groups of 8 channels", "per channel")]
    assert steps[0] == steps[1] < steps[2] - 6  # the layer has 7 channels: one group


def test_more_bits_lose_less_and_take_more(analysis: Any):
    for row in analysis.layers:
        values = [row.sqnr_db[f"{bits} bits per channel"] for bits in (8, 4, 2)]
        assert values == sorted(values, reverse=True) and values[0] > values[1]
    assert analysis.sqnr_db["8 bits per channel"] > analysis.sqnr_db["2 bits per channel"]
    assert analysis.bytes["8 bits per channel"] > analysis.bytes["2 bits per channel"]


def test_own_error_is_told_from_inherited_error(analysis: Any):
    """The first layer inherits none; its planted fault is what the others inherit, and leaving it out helps most."""
    conv, *others = analysis.layers
    assert conv.inherited == pytest.approx(0, abs=0.05)
    assert all(row.reached_db < row.own_db and 0 < row.inherited < 1 for row in others)
    gains = [row.others_db - analysis.sqnr_db["static activations"] for row in analysis.layers]
    assert np.isfinite(gains).all() and gains[0] == max(gains) > 0


def test_errors_of_layers_are_those_of_files_with_one_and_with_all_of_them_quantized():
    graph, size = small_cnn(), 10_000
    material, candidates = Representative(CalibrationData(images(23))), candidates_of(("float", "full_int8"))
    with file_runs() as files:
        table = explored(graph, material, candidates, Conditions(quality="fast"), files, Stages(), size)
        static = candidates[1]
        errors = layer_errors(graph, table, static)
    quantized = table.plans.numbers(table.plans.uniform(static)).quantized
    samples = [(sample, sample) for sample in table.plans.trial.samples[:INSIDE]]
    for unit, (own, reached) in errors.items():
        ((_, o),) = unit.keys
        name = graph.main.tensors[graph.main.ops[o].outputs[0]].name
        alone = QuantizedGraph(graph, {(0, o): quantized.ops[0, o]})
        for expected, each in ((own, alone), (reached, replace(quantized, borders={}))):
            rows = activation_errors(graph, realize(each).graph, samples)
            assert expected == pytest.approx(next(row.sqnr_db for row in rows if row.name == name), abs=1e-3)


def test_rules_can_be_pasted(analysis: Any):
    for row in analysis.layers:
        if row.suggestion:
            rule = eval(row.suggestion, {"tfq": tfq})
            assert isinstance(rule, tfq.Rule) and row.layer == f"{rule.layer} ({rule.op})"
    assert np.isfinite([*analysis.sqnr_db.values()]).all()


def test_the_command_writes_a_page(tmp_path: Any, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "m.tflite").write_bytes(faulty_cnn())
    np.save(tmp_path / "d.npy", images(9))
    with pytest.raises(SystemExit) as ended:
        main(
            (
                "analyze",
                str(tmp_path / "m.tflite"),
                "--data",
                str(tmp_path / "d.npy"),
                "--output",
                str(tmp_path / "a.html"),
                "--report",
                str(tmp_path / "a.json"),
            )
        )
    assert not ended.value.code
    figures = json.loads((tmp_path / "a.json").read_text())
    assert len(figures["layers"]) == 3 and figures["layers"][0]["sqnr_db"].keys() == figures["sqnr_db"].keys()
    assert (
        "outlier channels" in (tmp_path / "a.html").read_text() and "Own and inherited error" in capsys.readouterr().out
    )
