"""The analysis of layers: planted faults are told."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tfq_fine as tfq
from support.graphs import images, small_cnn
from tfq_converters import flatbuffer
from tfq_fine.cli.program import main

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
    """The first layer inherits none; a planted fault of it is what the others inherit, and leaving it out helps most."""
    conv, *others = analysis.layers
    static = analysis.sqnr_db["static activations"]
    assert conv.inherited == pytest.approx(0, abs=0.05) and conv.own_db == pytest.approx(conv.reached_db, abs=0.3)
    for row in others:
        assert row.reached_db < row.own_db and 0 < row.inherited < 1
        assert row.reached_db == pytest.approx(row.own_db + 10 * np.log10(1 - row.inherited), abs=1e-6)
    gains = [row.others_db - static for row in analysis.layers]
    assert np.isfinite(gains).all() and gains[0] == max(gains) > 0


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
            )
        )
    assert not ended.value.code
    assert (
        "outlier channels" in (tmp_path / "a.html").read_text() and "Own and inherited error" in capsys.readouterr().out
    )
