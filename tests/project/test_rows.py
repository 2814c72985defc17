"""To add one is a row: a toy of each kind reaches the file, or the report, through its table alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tfq_fine as tfq
from support.graphs import images, small_cnn
from support.nets import Net
from tfq_converters import flatbuffer
from tfq_converters.graph import Graph
from tfq_converters.kernels.consumers import Rule
from tfq_converters.kernels.runtimes import RUNTIMES, Runtime
from tfq_converters.operators.facts import FACTS, OperatorFacts
from tfq_converters.operators.integer_kernels import OPS, KernelRow
from tfq_converters.quantized import WeightCodes
from tfq_fine import numerics
from tfq_fine.algorithms import ALGORITHMS, Algorithm, Option, WeightProblem
from tfq_fine.calibration.observers import OBSERVERS, Observer
from tfq_fine.calibration.statistics import Range
from tfq_fine.report import Grid, QuantizationReport
from tfq_fine.report.quantization_sections import SECTIONS, ReportSection
from tfq_fine.variants.transform import Proposal, Transform
from tfq_fine.variants.transform_table import TRANSFORMS
from tfq_fine.variants.trial import Trial
from tfq_fine.variants.variant import Variant

STATIC = tfq.OpSpec("integer", tfq.WeightSpec(8), tfq.ActivationSpec(8))


def quantized(recipe: Any, graph: Graph | None = None, **options: Any) -> Any:
    options = {"transforms": None} | options
    return tfq.quantize(flatbuffer.write(graph or small_cnn()), recipe, images(8), **options)


def test_an_algorithm_is_a_row(monkeypatch: pytest.MonkeyPatch):
    """Every code is 0 but for the largest weights, which no other algorithm gives."""

    def sparse(problem: WeightProblem) -> WeightCodes:
        codes = numerics.affine.encode_weight(problem.weight, problem.block, problem.codes)
        return replace(codes, codes=np.where(np.abs(codes.codes) > problem.options["least"], codes.codes, 0))

    monkeypatch.setitem(ALGORITHMS, "sparse", Algorithm(sparse, options={"least": Option(100, 0, 127)}))
    recipe = tfq.Recipe("toy", STATIC).with_algorithm("sparse:least=90")
    codes = [
        value.codes
        for op in quantized(recipe).quantized.ops.values()
        for value in op.weights.values()
        if isinstance(value, WeightCodes) and value.codes.ndim > 1 and value.bits == 8
    ]
    assert codes and all(((np.abs(each) > 90) | (each == 0)).all() for each in codes)


def test_an_observer_is_a_row(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(
        OBSERVERS, "toy", Observer(lambda seen, bits, options: Range(-3.0, options["top"]), "", {"top": 1.0})
    )
    monkeypatch.setattr("tfq_fine.calibration.observers.LIMITS", {"top": (0.0, 9.0)})
    result = quantized("full_int8", observer="toy:top=5")
    steps = {round(encoding.scale * 255, 4) for op in result.quantized.ops.values() for encoding in op.outputs.values()}
    assert 8.0 in steps
    with pytest.raises(tfq.TfqError, match="top=10: expected 0 to 9"):
        quantized("full_int8", observer="toy:top=10")


def test_a_transform_is_a_row(monkeypatch: pytest.MonkeyPatch):
    """One that ruins the model is measured and refused, with the figures in the report; others stay."""

    def ruined(variant: Variant, trial: Trial) -> Proposal:
        main = variant.graph.main
        tensors = tuple(
            replace(t, data=np.zeros_like(t.data)) if t.data is not None and t.data.ndim > 1 else t
            for t in main.tensors
        )
        graph = replace(variant.graph, subgraphs=(replace(main, tensors=tensors),))
        return Proposal("weights are 0", (replace(variant, graph=graph),))

    monkeypatch.setitem(TRANSFORMS, "toy", Transform("a toy", ruined))
    monkeypatch.setitem(TRANSFORMS, "idle", Transform("another", lambda variant, trial: Proposal("nothing to do")))
    rows = {
        row.name: row for row in quantized("full_int8", transforms=["toy", "idle", "bias_correction"]).report.transforms
    }
    assert not rows["toy"].applied and "it brings -" in rows["toy"].text
    assert rows["toy"].after < rows["toy"].before - 10  # dB
    assert (rows["idle"].applied, rows["idle"].text) == (False, "nothing to do")
    assert "bias_correction" in rows


def test_a_recipe_is_a_row(monkeypatch: pytest.MonkeyPatch):
    toy = tfq.Recipe("toy", tfq.OpSpec("weight_only", tfq.WeightSpec(3)))
    monkeypatch.setitem(tfq.RECIPES, "toy", toy)
    result = quantized("toy")
    codes = [
        value.codes
        for op in result.quantized.ops.values()
        for value in op.weights.values()
        if isinstance(value, WeightCodes)
    ]
    assert codes and {(int(each.min()), int(each.max())) for each in codes} <= {(-4, 3), (-3, 3)}  # 3 of the 4 bits


def test_an_operator_is_a_row_of_facts_and_one_of_its_integer_kernel(monkeypatch: pytest.MonkeyPatch):
    """Without its rows an operator stays float; with them it computes in integers, and the file passes its check."""
    code, net = "RELU_0_TO_1", Net(1, 9, 11, 3)
    graph = net.graph(net.dense(net.mean(net.simple(code, net.conv(0, 7))), 5))
    monkeypatch.delitem(FACTS, code)
    monkeypatch.delitem(OPS, code)

    def mode() -> str:
        result = quantized("full_int8", graph, prefer="size")
        return str(next(row.mode for row in result.report.rows if row.code == code))

    assert mode() == "float"
    monkeypatch.setitem(FACTS, code, OperatorFacts(clamps=(0.0, 1.0)))
    monkeypatch.setitem(OPS, code, KernelRow(int16=False))
    assert mode() == "integer"


def test_a_runtime_is_a_row(monkeypatch: pytest.MonkeyPatch):
    rules = (Rule("refuses", "the toy knows no nibbles", bits=(4,)), Rule("correct"))
    monkeypatch.setitem(RUNTIMES, "toy", Runtime("toy", "a toy", rules=rules))
    recipe = tfq.Recipe("nibbles", tfq.OpSpec("weight_only", tfq.WeightSpec(4)))
    with pytest.raises(tfq.TfqError, match="the toy knows no nibbles"):
        quantized(recipe, runtimes="toy")
    fallback = quantized(recipe, runtimes="toy", on_unsupported="fallback").report
    assert {row.weights.split()[0] for row in fallback.rows if row.weights} == {"int8"}
    assert "meant for toy" in str(fallback)


def test_a_section_of_the_report_is_a_row(monkeypatch: pytest.MonkeyPatch):
    def slowest(report: QuantizationReport) -> list[Grid]:
        return [Grid("Operators in float", ("operator",), [(row.code,) for row in report.rows if row.mode == "float"])]

    monkeypatch.setitem(SECTIONS, "toy", ReportSection(slowest))
    monkeypatch.setitem(SECTIONS, "longer", ReportSection(lambda report: [Grid("At length", ("a",), [])], "listings"))
    report = quantized("weight_only_int8").report
    assert "Operators in float" in str(report) and "At length" not in str(report)
    assert "At length" in report.table(all=True)
