"""The questions asked of the kernel table: the facts that a plan rests on, and what it is told instead."""

from dataclasses import replace

import numpy as np
import pytest

from support.graphs import small_cnn
from tfq_converters.errors import TfqError
from tfq_converters.graph import Op, Subgraph, Tensor
from tfq_converters.kernels import costs
from tfq_converters.kernels.consumers import Rule
from tfq_converters.kernels.queries import Choice, Target, cell_form, fault, somewhere, status, working
from tfq_converters.kernels.runtimes import DEFAULT_RUNTIMES, RUNTIMES, VARIANTS, Runtime, families
from tfq_converters.kernels.table import Cell, load
from tfq_converters.probe.runtimes import OPENERS
from tfq_fine.api import quantize
from tfq_fine.cli.arguments import parse

MICRO = Target(("tflite-micro",))
REFERENCE = Target(("litert-reference",))
BOTH = Target(("litert", "tflite-micro"))
NPU = Target(("ethos-u",))

# code, mode, bits, granularity, activation bits, target, form -> whether it is computed
COMPUTED = {
    "dense blocks": (("FULLY_CONNECTED", "dynamic", 4, "blocks", None, Target(), ""), True),
    "dense blocks on the reference kernels": (("FULLY_CONNECTED", "dynamic", 4, "blocks", None, REFERENCE, ""), False),
    "dense blocks of int8": (("FULLY_CONNECTED", "dynamic", 8, "blocks", None, Target(), ""), False),
    "dense blocks under integers": (("FULLY_CONNECTED", "integer", 4, "blocks", 8, Target(), ""), False),
    "dense int4 on Micro": (("FULLY_CONNECTED", "integer", 4, "per_channel", 8, MICRO, ""), False),
    "dense int4 per tensor on Micro": (("FULLY_CONNECTED", "integer", 4, "per_tensor", 8, MICRO, ""), True),
    "stored per channel, Micro reads one scale": (
        ("FULLY_CONNECTED", "weight_only", 8, "per_channel", None, BOTH, ""),
        False,
    ),
    "Micro has no dynamic kernels": (("FULLY_CONNECTED", "dynamic", 8, "per_tensor", None, MICRO, ""), False),
    "depthwise int4 with float": (("DEPTHWISE_CONV_2D", "dynamic", 4, "per_channel", None, Target(), ""), False),
    "depthwise int4 with int16": (("DEPTHWISE_CONV_2D", "integer", 4, "per_channel", 16, Target(), ""), False),
    "conv int2": (("CONV_2D", "dynamic", 2, "channel_groups", None, Target(), "3x3"), False),
    "grouped conv per tensor": (("CONV_2D", "dynamic", 8, "per_tensor", None, Target(), "grouped"), False),
    "conv per tensor": (("CONV_2D", "dynamic", 8, "per_tensor", None, Target(), "3x3"), True),
    "matmul per channel": (("BATCH_MATMUL", "integer", 8, "per_channel", 8, Target(), ""), False),
    "matmul with int16, which tf.lite refuses": (("BATCH_MATMUL", "integer", 8, "per_tensor", 16, Target(), ""), False),
    "matmul with int16 on LiteRT": (("BATCH_MATMUL", "integer", 8, "per_tensor", 16, Target(("litert",)), ""), True),
    "embedding, which is written as a lookup": (("GATHER", "dynamic", 4, "per_channel", None, Target(), ""), True),
    "embedding of int2 blocks on LiteRT": (("GATHER", "dynamic", 2, "blocks", None, Target(("litert",)), ""), True),
    "embedding of int2 blocks, which tf.lite refuses": (
        ("GATHER", "weight_only", 2, "blocks", None, Target(), ""),
        False,
    ),
    "int8 on an NPU": (("CONV_2D", "integer", 8, "per_channel", 8, NPU, "3x3"), True),
    "int16x8 on an NPU": (("DEPTHWISE_CONV_2D", "integer", 8, "per_channel", 16, NPU, ""), True),
    "int4 on an NPU": (("CONV_2D", "integer", 4, "channel_groups", 8, NPU, "3x3"), False),
    "matmul on an NPU": (("BATCH_MATMUL", "integer", 8, "per_channel", 8, NPU, ""), False),
    "floats are nothing to an NPU": (("FULLY_CONNECTED", "dynamic", 4, "per_channel", None, NPU, ""), False),
}


@pytest.mark.parametrize("case", COMPUTED)
def test_what_is_computed_has_no_fault(case):
    requested, computed = COMPUTED[case]
    assert (fault(*requested) == "") == computed


def test_a_fault_says_where_and_why_and_what_works():
    assert fault("FULLY_CONNECTED", "dynamic", 8, "per_channel") == ""
    assert fault("FULLY_CONNECTED", "dynamic", 8, "channel_groups") == ""
    assert fault("DEPTHWISE_CONV_2D", "integer", 4, "per_channel", 16, Target(("litert",))) == (
        "DEPTHWISE_CONV_2D does not compute int4 per_channel weights in mode integer16 on litert, litert-no-delegate "
        "(silently wrong: off by 57682 steps); what works: int8 per_tensor, per_channel"
    )
    assert fault("CONV_3D", "dynamic", 8, "per_channel") == (
        "CONV_3D has no dynamic kernel for quantized weights on litert, tflite"
    )
    assert fault("CONV_2D", "integer", 4, "per_channel", 8, NPU) == (
        "CONV_2D does not compute int4 per_channel weights in mode integer8 on ethos-u (crashes: Vela dies with SIGFPE "
        "on any INT4 tensor); what works: int8 per_tensor, per_channel"
    )
    assert fault("CONV_2D", "weight_only", 8, "per_channel", None, NPU) == (
        "CONV_2D has no weight-only kernel for quantized weights on ethos-u (the NPU computes in integers only: floats "
        "stay on the CPU)"
    )


def test_status_takes_the_worst_form():
    requested = ("CONV_2D", "dynamic", 8, "per_tensor", "litert-reference")
    assert status(*requested, form="3x3").status == "correct"
    assert status(*requested, form="grouped").status == "refuses"
    assert status(*requested).status == "refuses"
    assert status("DEQUANTIZE", "weight_only", 8, "per_channel", "tflite-micro").status == "wrong"
    assert status("DEQUANTIZE", "weight_only", 8, "channel_groups", "tflite-micro").status == "wrong"
    assert status("NO_SUCH_OP", "dynamic", 8, "per_tensor", "litert").status == "absent"


def test_working_here_and_somewhere():
    assert working("DEPTHWISE_CONV_2D", "dynamic") == (Choice("dynamic", 8, "per_channel"),)
    assert working("CONV_3D", "dynamic") == ()
    assert not somewhere("CONV_3D", "dynamic")
    assert not somewhere("BATCH_MATMUL", "integer", 8, "per_channel")
    assert somewhere("BATCH_MATMUL", "integer", 16)  # on LiteRT
    assert working("BATCH_MATMUL", "integer", 16) == ()


def test_another_table_gives_other_answers():
    cell = Cell("FULLY_CONNECTED", "", "dynamic", 8, "per_channel")
    wrong = replace(load().cells[cell]["tflite"], status="wrong", message="off by one")
    mine = replace(load(), cells={**load().cells, cell: {**load().cells[cell], "tflite": wrong}})
    requested = ("FULLY_CONNECTED", "dynamic", 8, "per_channel", None)
    assert "tflite (silently wrong: off by one)" in fault(*requested, Target(table=mine))
    assert fault(*requested, Target(("litert",), mine)) == ""
    assert fault(*requested) == ""


def test_unknown_runtimes_are_refused():
    with pytest.raises(TfqError, match=r"expected runtimes among litert, .*found 'onnx'"):
        Target(("litert", "onnx"))
    with pytest.raises(TfqError, match="found none"):
        Target(())
    only = replace(load(), cells={cell: {"litert": runs["litert"]} for cell, runs in load().cells.items()})
    with pytest.raises(TfqError, match=r"no measurements of tflite-micro, only of litert.*--probe"):
        Target(("tflite-micro",), only)


def test_every_runtime_is_in_the_shipped_table_or_known_by_rules():
    by_rules = {name for name, runtime in RUNTIMES.items() if runtime.rules}
    assert by_rules == {"ethos-u", "openvino", "tosa"}
    assert {variant for runtime in RUNTIMES.values() for variant in runtime.variants} == {*load().variants, *by_rules}
    assert tuple(VARIANTS) == load().variants
    assert {variant.distribution for variant in VARIANTS.values()} == set(OPENERS)
    assert DEFAULT_RUNTIMES == ("litert", "tflite")
    assert [name for name in RUNTIMES if f'"{name}"' not in (quantize.__doc__ or "")] == []


def test_a_runtime_on_the_command_line_stands_for_all_variants_of_its_package():
    """TFLite Micro is not a variant of TensorFlow Lite, although its name begins alike."""
    assert {name: len(variants) for name, variants in families().items()} == {
        "litert": 3,
        "tflite": 3,
        "tflite-micro": 1,
    }
    assert [variant for variants in families().values() for variant in variants] == list(VARIANTS)


def test_a_runtime_is_one_row(monkeypatch, capsys):
    toy = Runtime(
        "toy", "a toy", rules=(Rule("refuses", "too many bits", bits=(8,)), Rule("correct")), compiles=True,
        no_float16="it has no floats",
    )  # fmt: skip
    monkeypatch.setitem(RUNTIMES, "toy", toy)
    target = Target(("toy",))
    assert target.variants == ("litert", "litert-no-delegate", "toy")
    assert target.compiles and target.no_float16 == "float16 weights are not read on toy (it has no floats)"
    dense = ("FULLY_CONNECTED", "dynamic")
    assert "on toy (refuses: too many bits)" in fault(*dense, 8, "per_channel", None, target)
    assert fault(*dense, 4, "per_channel", None, target) == ""
    with pytest.raises(SystemExit):
        parse(["tfq-fine", "quantize", "--help"])
    assert "toy: a toy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("data", "weight", "form"),
    [
        ((1, 9, 9, 6), (4, 3, 3, 6), "3x3"),
        ((1, 9, 9, 6), (4, 1, 1, 6), "1x1"),
        ((1, 9, 9, 6), (4, 1, 5, 6), "3x3"),
        ((1, 9, 9, 6), (4, 1, 1, 3), "grouped"),
        ((), (4, 1, 1, 3), None),
    ],
)
def test_cell_form(data, weight, form):
    tensors = (Tensor("x", data, "float32"), Tensor("w", weight, "float32"))
    op = Op("CONV_2D", (0, 1, -1), (2,))
    assert cell_form(op, Subgraph("main", tensors, (op,), (0,), (2,))) == form
    assert cell_form(replace(op, code="FULLY_CONNECTED"), Subgraph("main", tensors, (op,), (0,), (2,))) == ""


def test_costs_come_from_the_table_that_is_given():
    main = small_cnn().main
    conv = main.ops[0]
    shipped = costs.cost(conv, main, "float32")
    twice = {**load().cost["CONV_2D"]["float32"]}
    twice = {**twice, "ns_per_unit": 2 * twice["ns_per_unit"], "ns_base": 2 * twice["ns_base"]}
    mine = replace(load(), cost={**load().cost, "CONV_2D": {**load().cost["CONV_2D"], "float32": twice}})
    assert np.isclose(costs.cost(conv, main, "float32", mine), 2 * shipped)
    assert not costs.is_known(conv, main, "float32", replace(load(), cost={}))


def test_pointwise_costs_grow_with_rows_too():
    def conv(side, inputs, channels):
        tensors = (
            Tensor("x", (1, side, side, inputs), "float32"),
            Tensor("w", (channels, 1, 1, inputs), "float32"),
            Tensor("y", (1, side, side, channels), "float32"),
        )
        return Op("CONV_2D", (0, 1), (2,)), Subgraph("main", tensors, (), (0,), (2,))

    row = {"ns_base": 100.0, "ns_per_unit": 0.5, "ns_per_row": 7.0, "delegated": True}
    table = replace(load(), cost={"POINTWISE": {"unit": "mac", "dynamic_int4": row}})
    expected = 100 + 0.5 * 11 * 11 * 3 * 5 + 7 * 11 * 11
    op, subgraph = conv(11, 3, 5)
    assert costs.form_cost(op, subgraph, "dynamic_int4", "pointwise", table=table) == expected
    # measured: quantizing 12,544 rows of 32 inputs takes three times as long as multiplying them by 16 channels
    few, many = conv(112, 32, 16), conv(7, 320, 1280)
    for (op, subgraph), slower in ((few, True), (many, False)):
        dynamic = costs.form_cost(op, subgraph, "dynamic_int4", "pointwise")
        assert (dynamic > costs.cost(op, subgraph, "float32")) == slower
