"""Reports as values: JSON without loss, tables that say what is in them, pages that hold no foreign markup."""

import dataclasses
import json
import math
import sys
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfq_converters.errors import TfqError
from tfq_fine.report import (
    FileSize,
    Grid,
    Latency,
    LayerError,
    OpRow,
    OutputError,
    QuantizationReport,
    Report,
    TaskResult,
    TransformRow,
    plain_text,
)

NASTY = "<script>alert('x')</script>[red]$x^2$"
ROWS = (
    OpRow("m/conv/Relu;m/conv/Conv2D", "conv", "CONV_2D", "integer", "int8 per-channel", "int8", "", 42.3, 4000, 1080),
    OpRow("m/conv2/Conv2D", "conv2", "CONV_2D", "integer", "int8 per-channel", "int8", "", 41.0, 800, 240),
    OpRow("m/erf", "gelu_1", "CUSTOM:FlexErf", "float", "", "", "no integer kernel"),
    OpRow("m/erf_1", "gelu_2", "CUSTOM:FlexErf", "float", "", "", "no integer kernel"),
    OpRow(
        "m/dw", NASTY, "DEPTHWISE_CONV_2D", "weight_only", "int8 per-channel", "", "dynamic is slower", 39.9, 360, 120
    ),
    OpRow("m/reshape", "", "RESHAPE", "float"),
)
ERRORS = (("conv", 38.5), ("conv2", math.nan), ("gelu_1", 12.25), ("gelu_2", math.inf), (NASTY, -math.inf))
QUANTIZATION = QuantizationReport(ROWS, "full_int8", 5000, 20000, ("made at batch 1",), ERRORS)

LAYERS = tuple(LayerError(f"m/{n}/out", n, "CONV_2D", "int8", sqnr, 0.5) for n, sqnr in ERRORS)
VERIFICATION = Report(
    samples=64,
    outputs=(
        OutputError("scores", 41.25, 0.0125, 0.99991, 0.984375, 1.0),
        OutputError("map", math.inf, 0, 1, None, None),
    ),
    float_size=FileSize(20000, {"float32": 19000, "int32": 16}),
    quantized_size=FileSize(5000, {"int32": 300, "int8": 4700}),
    task=TaskResult("top1", 0.9375, 0.921875, 0.015625),
    layers=LAYERS,
    weights=LAYERS[:1],
    layer_samples=8,
    latency=Latency(1.5, 0.6, 0.4, 301, 1, 2),
    notes=("converted at batch 1",),
)


# ------------------------------------------------------------------------------------------------------ JSON

FLOATS = st.floats() | st.sampled_from([math.inf, -math.inf, math.nan, -0.0, 5e-324, 1e308])
NAMES = st.text(max_size=8)
OP_ROWS = st.builds(
    OpRow,
    NAMES,
    NAMES,
    NAMES,
    st.sampled_from(["float", "float16", "weight_only", "dynamic", "integer"]),
    NAMES,
    NAMES,
    NAMES,
    st.none() | FLOATS,
    st.integers(0),
    st.integers(0),
)
QUANTIZATIONS = st.builds(
    QuantizationReport,
    st.lists(OP_ROWS, max_size=3).map(tuple),
    NAMES,
    st.integers(0),
    st.integers(0),
    st.lists(NAMES, max_size=2).map(tuple),
    st.lists(st.tuples(NAMES, FLOATS), max_size=3).map(tuple),
)
SIZES = st.builds(FileSize, st.integers(0), st.dictionaries(NAMES, st.integers(0), max_size=3))
LAYER_ERRORS = st.lists(st.builds(LayerError, NAMES, NAMES, NAMES, NAMES, FLOATS, FLOATS), max_size=3).map(tuple)
VERIFICATIONS = st.builds(
    Report,
    st.integers(1),
    st.lists(
        st.builds(OutputError, NAMES, FLOATS, FLOATS, FLOATS, st.none() | FLOATS, st.none() | FLOATS), max_size=2
    ).map(tuple),
    SIZES,
    SIZES,
    st.none() | st.builds(TaskResult, NAMES, FLOATS, FLOATS, FLOATS, st.booleans()),
    LAYER_ERRORS,
    LAYER_ERRORS,
    st.integers(0),
    st.none() | st.builds(Latency, FLOATS, FLOATS, FLOATS, st.integers(1), st.integers(1), st.integers(1)),
    st.sampled_from(["default", "reference"]),
    st.lists(NAMES, max_size=2).map(tuple),
)


@given(QUANTIZATIONS | VERIFICATIONS)
def test_json_gives_the_same_value_back(report):
    text = report.to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    back = type(report).from_json(text)
    # `repr`, because NaN is not equal to itself; it tells 1 from 1.0 and 0.0 from -0.0 as well
    assert repr(back) == repr(report)


@pytest.mark.parametrize("report", [QUANTIZATION, VERIFICATION], ids=["quantization", "verification"])
def test_save_writes_the_json(report, tmp_path):
    report.save(tmp_path / "report.json")
    assert (tmp_path / "report.json").read_text() == report.to_json()
    with pytest.raises(TfqError, match="cannot be written"):
        report.save(tmp_path / "no" / "report.json")


def _changed(**changes):
    return json.dumps(json.loads(VERIFICATION.to_json()) | changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "kind"),
        (QUANTIZATION.to_json(), "tfq_fine.verification_report"),
        (_changed(colour=1), "unknown fields colour"),
        (_changed(samples="64"), "expected int, found '64'"),
        (_changed(samples=True), "expected int, found True"),
        (_changed(layers=[{}]), "missing"),
        (_changed(layers=3), "cannot be read"),
        (_changed(float_size=None), "cannot be read"),
        ('{"kind": "tfq_fine.verification_report"}', "missing"),
    ],
    ids=["text", "list", "the other kind", "field", "string", "bool", "row", "number", "null", "nothing"],
)
def test_what_is_not_a_report_is_refused(text, message):
    with pytest.raises(TfqError, match=message):
        Report.from_json(text)


def test_the_former_name_of_transforms_is_read_and_warned_of():
    expected = dataclasses.replace(QUANTIZATION, transforms=(TransformRow("cross_layer", True, "two layers"),))
    plain = json.loads(expected.to_json())
    plain["repairs"] = plain.pop("transforms")
    report = QuantizationReport.from_json(json.dumps(plain))
    assert report == expected
    with pytest.warns(DeprecationWarning, match="'repairs' is now called 'transforms'") as caught:
        assert report.repairs == report.transforms
    assert caught[0].filename == __file__


def test_an_unknown_mode_is_refused():
    text = QUANTIZATION.to_json().replace('"weight_only"', '"sometimes"')
    with pytest.raises(TfqError, match="found 'sometimes'"):
        QuantizationReport.from_json(text)


# ---------------------------------------------------------------------------------------------------- values


def test_reports_are_frozen_and_comparable():
    assert Report.from_json(VERIFICATION.to_json()).task == VERIFICATION.task
    with pytest.raises(dataclasses.FrozenInstanceError):
        VERIFICATION.samples = 1  # type: ignore[misc]


def test_passed_compares_the_drop():
    assert VERIFICATION.passed(0.016)
    assert not VERIFICATION.passed(0.015)
    exactly = dataclasses.replace(VERIFICATION, task=TaskResult("top1", 0.99, 0.98, 0.99 - 0.98))
    assert 0.99 - 0.98 > 0.01  # in float64
    assert exactly.passed(0.01)
    assert not exactly.passed(0.0099)
    lost = dataclasses.replace(VERIFICATION, task=TaskResult("mse", 0.1, math.nan, math.nan, False))
    assert not lost.passed(1e9)
    with pytest.raises(TfqError, match="metric"):
        dataclasses.replace(VERIFICATION, task=None).passed(0.01)


def test_worst_layers_come_first_and_nan_is_worst():
    expected = ["conv2", NASTY, "gelu_1", "conv"]
    assert [name for name, _ in QUANTIZATION.worst_layers(4)] == expected
    assert [error.layer for error in VERIFICATION.worst_layers(4)] == expected


def test_left_float_lists_what_was_asked_for_something_else():
    assert [row.layer for row in QUANTIZATION.left_float()] == ["gelu_1", "gelu_2"]


# ---------------------------------------------------------------------------------------------------- tables


def _lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


@pytest.mark.parametrize("report", [QUANTIZATION, VERIFICATION], ids=["quantization", "verification"])
def test_text_is_plain_and_fits(report, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    for text in (str(report), report.table(all=True)):
        assert "\x1b" not in text
        assert max(map(len, text.splitlines())) <= 120
        assert all(line == line.rstrip() for line in text.splitlines())
    assert "[red]" in report.table(all=True)  # and is not taken for markup


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("report", [QUANTIZATION, VERIFICATION], ids=["quantization", "verification"])
def test_no_number_or_word_is_cut(report, width):
    sections = report._sections(all=True)
    lines = plain_text(sections, width).splitlines()
    assert max(map(len, lines)) <= width
    shown = {word.strip(";:") for line in lines for word in line.split()}
    cells = [cell for section in sections if isinstance(section, Grid) for row in section.rows for cell in row]
    words = {word.strip(";:") for cell in cells for word in cell.split() if len(word) <= width - 2}
    assert len(words) > 20
    assert words <= shown


def test_tables_that_do_not_fit_are_lists():
    grid = Grid("Sizes", ("what", ">bytes", ">after"), [("a" * 30, "2,568,992", "1"), ("b", "7", "")])
    assert plain_text([grid], 60).split("\n")[2].split() == ["what", "bytes", "after"]
    listed = ["", "Sizes", "a" * 30, "  bytes: 2,568,992; after: 1", "b", "  bytes: 7"]
    assert plain_text([grid], 40).split("\n") == listed


def test_quantization_summary():
    lines = _lines(str(QUANTIZATION))
    assert "Recipe full_int8: 20,000 bytes -> 5,000 bytes (0.25)" in str(QUANTIZATION)
    assert ["CONV_2D", "integer", "int8", "per-channel", "int8", "2", "4,800", "1,320"] in lines  # two ops, one line
    assert ["float", "no", "integer", "kernel", "2", "gelu_1,", "gelu_2"] in lines
    assert ["gelu_1", "12.2"] in lines
    assert "made at batch 1" in str(QUANTIZATION)
    assert "m/reshape" not in str(QUANTIZATION)


def test_quantization_listing_has_a_line_per_operator():
    text = QUANTIZATION.table(all=True)
    assert "m/reshape" in text
    assert text.count("CONV_2D") > str(QUANTIZATION).count("CONV_2D")
    assert "42.3" in text


def test_verification_summary():
    lines = _lines(str(VERIFICATION))
    assert ["top1", "0.9375", "0.9219", "0.0156"] in lines
    assert ["scores", "41.2", "0.0125", "0.999910", "0.9844", "1.0000"] in lines
    assert ["map", "exact", "0", "1.000000", "-", "-"] in lines
    assert ["file", "20,000", "5,000", "0.25"] in lines
    assert ["float32", "19,000", "0"] in lines
    assert ["int8", "0", "4,700"] in lines
    assert ["1.5", "0.6", "0.40", "median", "of", "301,", "batch", "1,", "2", "threads"] in lines
    assert "converted at batch 1" in str(VERIFICATION)


def test_verification_orders_layers_by_error_or_by_the_graph():
    def places(text):
        return [text.index(f"{name}: m/{name}/out") for name in ("conv", "conv2", "gelu_1")]

    conv, conv2, gelu = places(str(VERIFICATION))
    assert conv2 < gelu < conv
    conv, conv2, gelu = places(VERIFICATION.table(all=True))
    assert conv < conv2 < gelu


def test_a_report_without_optional_parts_prints():
    bare = Report(1, VERIFICATION.outputs, VERIFICATION.float_size, VERIFICATION.quantized_size)
    assert "Latency" not in str(bare)
    assert "1 sample," in str(bare)
    assert Report.from_json(bare.to_json()) == bare
    assert "Recipe none" in str(QuantizationReport((), "none", 0, 0))


# ----------------------------------------------------------------------------------------------------- pages


class _Page(HTMLParser):
    """Counts tags, and checks that they nest."""

    VOID = ("meta", "link", "use", "path", "input", "wbr", "br", "rect")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def _pages(report, tmp_path):
    report.save_html(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    return text, _Page(text)


@pytest.mark.parametrize("report", [QUANTIZATION, VERIFICATION], ids=["quantization", "verification"])
def test_pages(report, tmp_path):
    pytest.importorskip("matplotlib")
    text, page = _pages(report, tmp_path)
    assert page.open == []
    assert page.tags.count("script") == 1  # the page's own, not the one that is a layer's name
    assert "alert('x')" in page.text
    assert "http-equiv" not in text
    assert 'src="' not in text  # nothing is fetched
    assert "http:" not in text.replace("http://www.w3.org", "")
    assert "https:" not in text
    report.save_html(tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == text


def test_a_page_says_whether_the_metric_fell_too_far(tmp_path):
    pytest.importorskip("matplotlib")
    for limit, word in (("2%", "PASS."), ("1%", "FAIL."), ("", "Compared.")):
        _, page = _pages(dataclasses.replace(VERIFICATION, max_drop=limit), tmp_path)
        assert [w for w in ("PASS.", "FAIL.", "Compared.") if w in page.text] == [word]


def test_a_page_shows_where_the_error_of_layers_comes_from(tmp_path):
    pytest.importorskip("matplotlib")
    rows = (
        LayerError("m/a", "a", "CONV_2D", "int8", 20.0, 0.1, own_db=20.0, weights_db=20.5),
        LayerError("m/b", "b", "CONV_2D", "int8", 19.0, 0.1, own_db=32.0, weights_db=50.0),
        LayerError("m/c", "c", "CONV_2D", "int8", 18.0, 0.1, own_db=22.0, weights_db=40.0),
    )
    ops = (OpRow("m/a", "a", "CONV_2D", "integer", "int4 per-channel", "int8"),)
    _, page = _pages(dataclasses.replace(QUANTIZATION, rows=ops, layers=rows), tmp_path)
    for said in (
        "Its own: the rounding of its weights (int4 per-channel).",
        "Most of it comes from the layers before.",
        "Partly inherited; its own part is the rounding or clipping of its activations.",
        """tfq.Rule(tfq.RECIPES["full_int8"].default, layer='a')""",
        """tfq.Rule(tfq.RECIPES["dynamic_int8"].default, layer='c')""",
    ):
        assert said in page.text
    assert "layer='b'" not in page.text  # a rule for it would change nothing: its error is inherited


def test_shares_of_noise_are_those_of_power():
    row = LayerError("m/a", "a", "CONV_2D", "int8", 20.0, 0.1, own_db=23.0103, weights_db=26.0206)
    assert row.inherited == pytest.approx(0.5, abs=1e-5)  # 3.0103 dB are a factor of two
    assert row.of_weights == pytest.approx(0.5, abs=1e-5)
    exact = LayerError("m/a", "a", "CONV_2D", "int8", math.inf, 0, own_db=math.inf, weights_db=math.inf)
    assert (exact.inherited, exact.of_weights) == (1, 0)
    lost = LayerError("m/a", "a", "CONV_2D", "int8", math.nan, math.nan, own_db=math.nan)
    assert (lost.inherited, lost.of_weights) == (0, None)


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_a_missing_extra_is_named(missing, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(TfqError, match=rf"{missing}.* is not installed.*tfq_fine\[report\]"):
        VERIFICATION.save_html(tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []
