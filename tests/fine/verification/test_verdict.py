"""A report ends with what the file computes; a file that is not finite where the model is, is not handed over."""

import math
from dataclasses import replace

import numpy as np
import pytest

import tfq_fine as tfq
from support.graphs import DENSE, RELU
from support.nets import Net
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Graph, Options
from tfq_converters.runtime.runner import Runner
from tfq_fine.numerics.errors import ErrorSums
from tfq_fine.report import QuantizationReport
from tfq_fine.report.verdict import WEAK_DB, OutputVerdict, Verdict


def small_net() -> Graph:
    net = Net(1, 7)
    return net.graph(net.dense(net.dense(0, 11, RELU), 5))


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 7)).astype(np.float32)


def near_zero() -> Graph:
    """log(x0 - 0.95 x1): with weights of few bits, the difference of equal inputs is 0 or less."""
    net = Net(1, 2)
    options = Options("FullyConnectedOptions", DENSE | {"fusedActivationFunction": 0, "keepNumDims": True})
    weight = net.constant(np.float32([[1.0, -0.95], [1.0, -0.5]]))
    y = net.add("FULLY_CONNECTED", (0, weight, -1), (1, 2), options)
    return net.graph(net.add("LOG", (y,), (1, 2)))


@pytest.mark.parametrize("transforms", [None, "auto"])
def test_a_file_that_is_not_finite_is_refused(transforms: str | None) -> None:
    equal = np.repeat(np.random.default_rng(0).uniform(0.5, 2, (20, 1)), 2, axis=1).astype(np.float32)
    with pytest.raises(tfq.TfqError, match=r"values of output 'net/log_b/output' are NaN or infinite on a sample"):
        tfq.quantize(write(near_zero()), "weight_only_int4", equal, transforms=transforms)
    assert tfq.quantize(write(near_zero()), "weight_only_int8", equal, transforms=transforms).report.verdict is not None


def test_the_verdict_is_that_of_the_file() -> None:
    graph, data = small_net(), rows(30)
    result = tfq.quantize(write(graph), "full_int8", data, prefer="size")
    verdict = result.report.verdict
    assert verdict is not None and verdict.samples == 30 and not verdict.generated
    files, sums, same = (Runner(write(graph)), Runner(result.content)), ErrorSums(), 0
    for row in data:
        (expected,), (found,) = (file.run([row[None]]) for file in files)
        sums, same = sums + ErrorSums.of(expected, found), same + int(expected.argmax() == found.argmax())
    (output,) = verdict.outputs
    assert output.sqnr == pytest.approx(sums.sqnr_db, abs=1e-9)
    assert output.agreement == pytest.approx(same / 30)
    assert "The file compared with the float model, on 30 samples of the data" in str(result.report)
    assert QuantizationReport.from_json(result.report.to_json()) == result.report


def test_integer_outputs_are_compared_as_what_they_stand_for() -> None:
    result = tfq.quantize(write(small_net()), "full_int8", rows(30), input_type="uint8", output_type="int8")
    assert result.report.verdict is not None and result.report.verdict.outputs[0].sqnr > 30


def test_the_rounding_of_an_integer_output_after_a_float_operator_counts() -> None:
    """Weights in float16 lose next to nothing: what is lost is the QUANTIZE at the border."""
    graph, data = small_net(), rows(30)
    plain, rounded = (tfq.quantize(write(graph), "float16", data, output_type=kind) for kind in ("float32", "int8"))
    assert [op.code for op in rounded.graph.main.ops][-1] == "QUANTIZE"
    before, after = (result.report.verdict.outputs[0].sqnr for result in (plain, rounded) if result.report.verdict)
    (out,) = (rounded.graph.main.tensors[t] for t in rounded.graph.main.outputs)
    assert out.quantization is not None
    expected = [Runner(write(graph)).run([row[None]])[0] for row in data]
    step = float(out.quantization.scale[0])
    ideal = 10 * math.log10(np.mean(np.square(expected)) / (step**2 / 12))  # rounding errors are uniform in a step
    assert before > 65 and abs(after - ideal) < 1.5  # dB: 150 values, whose squared errors scatter by a tenth


def test_ties_are_shown_where_there_are_any() -> None:
    rows_ = OutputVerdict("scores", 30.0, 0.9, tied=3), OutputVerdict("boxes", 40.0)
    grid = Verdict(rows_, 9).grid()
    assert grid.columns[-1] == ">tied in the file" and [row[-1] for row in grid.rows] == ["3", ""]
    assert not any("tied" in column for column in Verdict((replace(rows_[0], tied=0), rows_[1]), 9).grid().columns)


def test_ties_of_the_file_are_counted() -> None:
    """Two equal classes tie in every sample, with integers as without."""
    net = Net(1, 7)
    weight = np.random.default_rng(1).normal(size=(3, 7)).astype(np.float32)
    weight[1] = weight[0] * 2
    weight[2] = weight[1]
    options = Options("FullyConnectedOptions", DENSE | {"fusedActivationFunction": 0, "keepNumDims": True})
    graph = net.graph(net.add("FULLY_CONNECTED", (0, net.constant(weight), -1), (1, 3), options))
    data = rows(30)
    verdict = tfq.quantize(write(graph), "full_int8", data, output_type="int8").report.verdict
    assert verdict is not None and verdict.outputs[0].tied == int(((data @ weight[0]) > 0).sum())


def test_without_data_it_says_so() -> None:
    report = tfq.quantize(write(small_net()), "dynamic_int8").report
    assert report.generated and report.verdict is not None and report.verdict.generated
    text = str(report)
    assert "Worst layers (on generated inputs)" in text and "on 1 generated input" in text
    given = str(tfq.quantize(write(small_net()), "dynamic_int8", rows(5)).report)
    assert "generated" not in given


@pytest.mark.parametrize(
    ("sqnr", "agreement", "weak"),
    [
        (WEAK_DB, 1.0, False),
        (WEAK_DB - 0.1, 1.0, True),
        (29, 0.89, True),
        (31, 0.89, False),
        (math.nan, None, True),
        (math.inf, None, False),
    ],
)
def test_a_poor_likeness_is_warned_of(sqnr: float, agreement: float | None, weak: bool) -> None:
    verdict = Verdict((OutputVerdict("y", sqnr, agreement),), 9)
    errors = (("a", 40.0), ("b", 35.0), ("c", 8.0), ("d", 7.0))
    report = QuantizationReport((), "full_int8", 1, 2, (), errors, verdict=verdict)
    warned = report.poor_outputs()
    assert bool(warned) == weak
    if weak:
        assert report.lossy_layers()[0] == ("c", 27.0)
        assert warned[0].startswith("the outputs are far from the float model's (y ")
        assert "the most is lost in c, b, d: try full_int16x8" in warned[0]


def test_the_warning_is_in_the_report_and_the_log(caplog: pytest.LogCaptureFixture) -> None:
    result = tfq.quantize(
        write(small_net()), "full_int8", rows(30), observer="mean_std:deviations=0.3", transforms=None
    )
    (warning,) = result.report.poor_outputs()
    assert warning in result.report.warnings and f"Warning: {warning[:60]}" in str(result.report)
    assert warning in caplog.text
