"""The pieces of `benchmarks.granularity`, and all of it on a tiny model."""

from math import nan

import numpy as np
import pytest

from benchmarks import granularity
from benchmarks.file_outputs import outputs_apart
from benchmarks.float_files import Files
from benchmarks.granularity import File, Row
from benchmarks.granularity_figure import draw
from benchmarks.granularity_files import float_codes, quantizes_nothing
from benchmarks.granularity_peer import SETTINGS as PEER
from benchmarks.granularity_settings import SETTINGS, matching
from benchmarks.sensitivity import sensitive_layers
from support.graphs import images, small_cnn
from tfq_converters import flatbuffer
from tfq_fine.request.specs import WeightSpec


def file(size: int, sqnr: float) -> File:
    return File(size, 0.5, 1.0, sqnr, 1.0)


def test_settings_are_found_by_pattern():
    assert [setting.name for setting in matching(["dynamic-mixed", "integer-int2-b*"])] == [
        "integer-int2-blocks128",
        "integer-int2-blocks32",
        "dynamic-mixed",
    ]
    assert {setting.peer for setting in SETTINGS.values()} - {""} == set(PEER)


@pytest.mark.parametrize(
    ("equal", "theirs", "short"),
    [
        (file(100, 20.0), file(100, 20.1), ""),
        (file(100, 20.0), file(100, 20.3), "SQNR"),
        (file(102, 20.0), file(100, 10.0), "size"),
        (file(102, 20.0), file(100, 20.3), "SQNR and size"),
        (file(100, 20.0), file(100, nan), ""),
        (None, file(100, 20.3), ""),
    ],
)
def test_what_falls_short(equal, theirs, short):
    assert Row("m", "s", None, equal, theirs).falls_short == short


def test_a_quantized_file_tells_what_it_leaves_float():
    import tfq_fine as tfq

    graph = small_cnn()
    kept = tfq.Recipe("r", tfq.RECIPES["dynamic_int8"].default, (tfq.Rule(None, op="CONV_2D"),), flexible=True)
    found = flatbuffer.read(tfq.quantize(flatbuffer.write(graph), kept, prefer="size").content)
    assert float_codes(graph, found, "dynamic") == ["CONV_2D"]
    assert float_codes(graph, found, "integer") == ["CONV_2D", "MEAN", "SOFTMAX"]
    stored = flatbuffer.read(tfq.quantize(flatbuffer.write(graph), "weight_only_int8", prefer="size").content)
    assert float_codes(graph, stored, "weight_only") == []
    assert quantizes_nothing(graph) and not quantizes_nothing(stored)


def test_the_most_sensitive_layer_is_the_one_that_is_rounded():
    graph = small_cnn()
    for tensor in graph.main.tensors:
        if tensor.name in ("conv/kernel", "depthwise/kernel"):
            assert tensor.data is not None
            tensor.data[...] = np.sign(tensor.data)  # codes of any width hold these exactly
    assert sensitive_layers(graph, images(4), WeightSpec(4), 0.3) == ["dense"]


def test_a_file_that_cannot_be_run_ends_nothing(tmp_path):
    path, samples = tmp_path / "bad.tflite", tmp_path / "samples.npy"
    path.write_bytes(b"no model")
    np.save(samples, images(2))
    assert "TfqError" in outputs_apart(path, samples, 2)


def test_all_of_it_on_a_tiny_model(tmp_path):
    place = tmp_path / "tiny"
    place.mkdir()
    files = Files(place)
    files.tflite.write_bytes(flatbuffer.write(small_cnn()))
    (place / "signature.json").write_text('["serving_default", "images"]')
    np.save(place / "calibration.npy", images(8))
    np.save(place / "test.npy", images(12, seed=1))
    names = ["weight_only-int4-per_channel", "weight_only-int2-per_tensor", "integer-int8-per_channel", "*_only-mixed"]
    rows = granularity.measure("tiny", matching(names), tmp_path, test=10)
    by_name = {row.setting: row for row in rows}
    assert len(rows) == 4 and all(row.ours and row.ours.latency for row in rows)
    same = by_name["weight_only-int4-per_channel"]
    assert (same.peer, same.falls_short) == ("leaves float: DEPTHWISE_CONV_2D", "")
    assert same.equal and same.theirs and same.equal.sqnr_db == pytest.approx(same.theirs.sqnr_db, abs=0.01)
    assert by_name["weight_only-int2-per_tensor"].peer == "quantizes no weights"
    assert "fails" not in granularity.ours_table(rows).markdown()
    assert len(granularity.peer_table(rows).rows) == 3
    numbers = {"float_bytes": {"tiny": 5000}, "rows": [granularity.asdict(row) for row in rows]}
    draw(numbers, tmp_path / "figure.svg")
    assert "per-channel" in (tmp_path / "figure.svg").read_text()
