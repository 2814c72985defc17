"""Two reports side by side: pairs by name, losses first, and what cannot be compared."""

import dataclasses
import math

import pytest

from tfq_converters.errors import TfqError
from tfq_fine.cli import main
from tfq_fine.report import (
    FileSize,
    LayerError,
    OpRow,
    OutputError,
    QuantizationReport,
    Report,
    SideBySide,
    TaskResult,
    load_report,
)


def _layers(*values):
    return tuple(LayerError(f"m/{name}", name, "CONV_2D", "int8", db, 0.1) for name, db in values)


OUTPUTS = (OutputError("scores", 41.25, 0.0125, 0.99, 0.98, 1.0),)
ONE = Report(
    7,
    OUTPUTS,
    FileSize(900),
    FileSize(301),
    TaskResult("top1", 0.9, 0.85, 0.05),
    _layers(("a", 40.0), ("b", 30.0), ("c", 20.0)),
)
OTHER = dataclasses.replace(
    ONE,
    quantized_size=FileSize(203),
    layers=_layers(("c", math.nan), ("b", 25.5), ("a", 41.0), ("d", 9.0)),
)


def test_layers_are_paired_by_name_and_the_greatest_loss_comes_first():
    grids = SideBySide(ONE, OTHER, ("x", "y")).sections()
    figures, layers = (grid.rows for grid in grids)
    assert ("bytes", "301", "203") in figures
    assert ("top1, drop", "+0.0500", "+0.0500") in figures
    assert [row[0] for row in layers] == ["c", "b", "a"]
    assert [row[2:5] for row in layers] == [("20.0", "nan", "-inf"), ("30.0", "25.5", "-4.5"), ("40.0", "41.0", "+1.0")]


def test_reports_of_quantize_are_compared_too():
    rows = (OpRow("m/a", "a", "CONV_2D", "integer", "int8", "int8"),)
    first = QuantizationReport(rows, "full_int8", 500, 2000, layer_error=(("a", 30.0),))
    second = dataclasses.replace(first, recipe="full_w4a8", file_bytes=300, layer_error=(("a", 20.0),))
    text = str(SideBySide(first, second))
    assert "full_w4a8" in text
    assert "-10.0" in text


def test_reports_of_two_kinds_are_refused(tmp_path):
    QuantizationReport((), "full_int8", 500, 2000).save(tmp_path / "a.json")
    ONE.save(tmp_path / "b.json")
    with pytest.raises(TfqError, match="both from `quantize`, or from `verify`"):
        SideBySide(load_report(str(tmp_path / "a.json")), load_report(str(tmp_path / "b.json")))
    (tmp_path / "c.json").write_text('{"kind": "recipe"}')
    with pytest.raises(TfqError, match="found 'recipe'"):
        load_report(str(tmp_path / "c.json"))
    with pytest.raises(TfqError, match="cannot be read: No such file"):
        load_report(str(tmp_path / "none.json"))
    (tmp_path / "d.json").write_bytes(b"\xff\xfe")
    with pytest.raises(TfqError, match="is no text"):
        load_report(str(tmp_path / "d.json"))


def test_the_command_prints_and_writes_a_page(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    ONE.save(tmp_path / "before.json")
    OTHER.save(tmp_path / "after.json")
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "compare",
                str(tmp_path / "before.json"),
                str(tmp_path / "after.json"),
                "--html",
                str(tmp_path / "both.html"),
            ]
        )
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "before" in printed and "-4.5" in printed
    assert "-4.5" in (tmp_path / "both.html").read_text()
