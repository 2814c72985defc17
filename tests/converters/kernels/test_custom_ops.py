"""Custom operators: the runtimes are asked which they execute, and what they execute is measured and checked."""

import struct
from dataclasses import replace

import numpy as np
import pytest

import tfq_fine as tfq
from support.graphs import CONV, RELU
from tfq_converters import flatbuffer, writer
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, Op, Options, Subgraph, Tensor
from tfq_converters.runtime import custom_ops
from tfq_converters.runtime.custom_ops import executes
from tfq_converters.runtime.runner import Runner
from tfq_converters.runtime.unrunnable import unrunnable_names

SAME_2_BY_2 = struct.pack("<3i", 1, 2, 2)  # padding, strides: how the delegate reads it


def segmentation(custom: str = "Convolution2DTransposeBias") -> Graph:
    """conv 3x3 (3 -> 8) ReLU, a transposed convolution (8 -> 1) as a custom operator, conv 3x3 (1 -> 4)."""
    rng = np.random.default_rng(5)

    def constant(name: str, *shape: int) -> Tensor:
        return Tensor(name, shape, "float32", data=rng.normal(size=shape).astype(np.float32))

    tensors = (
        Tensor("images", (1, 6, 10, 3), "float32"),
        constant("first/kernel", 8, 3, 3, 3),
        constant("first/bias", 8),
        Tensor("first", (1, 6, 10, 8), "float32"),
        constant("up/kernel", 1, 2, 2, 8),
        constant("up/bias", 1),
        Tensor("up", (1, 12, 20, 1), "float32"),
        constant("last/kernel", 4, 3, 3, 1),
        constant("last/bias", 4),
        Tensor("last", (1, 12, 20, 4), "float32"),
    )
    ops = (
        Op("CONV_2D", (0, 1, 2), (3,), Options("Conv2DOptions", CONV | {"fusedActivationFunction": RELU})),
        Op("CUSTOM", (3, 4, 5), (6,), custom_code=custom, custom_options=SAME_2_BY_2),
        Op("CONV_2D", (6, 7, 8), (9,), Options("Conv2DOptions", CONV)),
    )
    return Graph((Subgraph("main", tensors, ops, (0,), (9,)),))


def data() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(12, 6, 10, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("custom", "default", "reference"),
    [("Convolution2DTransposeBias", True, False), ("Unheard", False, False), ("FlexErf", False, False)],
)
def test_the_runtimes_are_asked(custom: str, default: bool, reference: bool) -> None:
    graph = segmentation(custom)
    op = graph.main.ops[1]
    assert executes("default", op, graph.main) is default
    assert executes("reference", op, graph.main) is reference


def test_an_operator_that_the_delegate_refuses_for_its_shapes_is_not_executed() -> None:
    graph = segmentation()
    tensors = list(graph.main.tensors)
    tensors[4] = replace(tensors[4], data=None)  # the delegate wants a constant kernel
    variable = replace(graph.main, tensors=tuple(tensors), inputs=(0, 4))
    custom_ops._answers.clear()
    assert not executes("default", variable.ops[1], variable)
    custom_ops._answers.clear()


@pytest.mark.parametrize("recipe", ["float16", "dynamic_int8", "full_int8", "full_int16x8"])
def test_what_lies_behind_is_measured_and_checked(recipe: str) -> None:
    content = flatbuffer.write(segmentation())
    result = tfq.quantize(content, recipe, data())
    assert not any("no runtime here" in note for note in result.report.notes)
    expected, found = (Runner(file).run([data()[:1]])[0] for file in (content, result.content))
    noise = 10 * np.log10(np.square(expected).sum() / max(np.square(expected - found).sum(), 1e-12))
    assert noise > 30
    quantized = {row.name for row in result.report.rows if row.mode != "float"}
    assert quantized == (set() if recipe == "float16" else {"first", "last"})
    assert "last" in dict(result.report.layer_error)
    assert not any("no runtime" in row.text for row in result.report.transforms)


def test_an_error_behind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    realize = writer.realize

    def shifted(quantized):  # type: ignore[no-untyped-def]
        found = realize(quantized)
        main = found.graph.main
        last = next(n for n, t in enumerate(main.tensors) if t.name.startswith("last/kernel") and t.dtype == "int8")
        tensors = list(main.tensors)
        tensors[last] = replace(tensors[last], data=np.roll(tensors[last].data, 1))  # type: ignore[type-var]
        return replace(found, graph=replace(found.graph, subgraphs=(replace(main, tensors=tuple(tensors)),)))

    monkeypatch.setattr(writer, "realize", shifted)
    with pytest.raises(TfqError, match="not handed over: on the default kernels, last"):
        tfq.quantize(flatbuffer.write(segmentation()), "full_int8", data(), transforms=None)


def test_one_that_nothing_executes_stays_and_the_report_says_so() -> None:
    graph = segmentation("Unheard")
    assert unrunnable_names(graph) == ["Unheard"]
    result = tfq.quantize(flatbuffer.write(graph), "full_int8", data())
    assert any(note.startswith("Unheard: no runtime here executes them") for note in result.report.notes)
