"""The run check passes what right kernels compute, however coarse their arithmetic, and still refuses wrong files."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import op_sweep
from benchmarks.op_cases import BASE, case, ints, options, weights
from benchmarks.single_op import Case
from tfq_converters import writer
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, Op, Tensor
from tfq_converters.kernels.arithmetic.emulated import KERNELS
from tfq_converters.operators.integer_kernels import OPS
from tfq_converters.realize.realized import Realized, realize

X = (1, 8, 9, 3)
EMULATED = list(KERNELS)
OTHERS = {
    dtype: [
        code
        for code in BASE
        if code not in op_sweep.ELSEWHERE
        and (code, dtype) not in KERNELS
        and (OPS[code].takes(dtype) or dtype in OPS[code].written)
    ]
    for dtype in op_sweep.RECIPE
}


@pytest.mark.parametrize(("code", "dtype"), EMULATED)
def test_right_files_of_emulated_operators_pass(code: str, dtype: str) -> None:
    """50 random shapes, options and ranges; the samples leave the calibrated ranges by 30 %."""
    found = op_sweep.swept([code], dtype, 50, seed=11)
    assert found.integer > 40
    assert not found.refused, found.refused[0]


@pytest.mark.parametrize("dtype", OTHERS)
def test_right_files_of_all_other_operators_pass(dtype: str) -> None:
    """Six of each, in one file; `benchmarks.op_sweep` has 50 of each."""
    found = op_sweep.swept(OTHERS[dtype], dtype, 6, seed=11)
    assert found.integer > 0.8 * found.total
    assert not found.refused, found.refused[0]


def bilinear(size: int, wanted: int, **fields: bool) -> Case:
    chosen = {"alignCorners": False, "halfPixelCenters": False} | fields
    return case(
        "RESIZE_BILINEAR", (1, size, size, 3), ints(wanted, wanted), o=options("ResizeBilinearOptions", **chosen)
    )


def nearest(size: int, wanted: int, **fields: bool) -> Case:
    chosen = {"alignCorners": False, "halfPixelCenters": False} | fields
    kind = options("ResizeNearestNeighborOptions", **chosen)
    return case("RESIZE_NEAREST_NEIGHBOR", (1, size, size, 3), ints(wanted, wanted), o=kind)


def softmax(count: int, width: float) -> Case:
    return case("SOFTMAX", (4, count), o=options("SoftmaxOptions", beta=1.0), low=-width, high=width)


def checked(cases: list[Case], dtype: str) -> None:
    numbers, samples = op_sweep.quantized(cases, dtype, np.random.default_rng(5))
    assert all(encoding.mode == "integer" for encoding in numbers.ops.values())
    writer.write(numbers, samples)


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("fields", [{}, {"alignCorners": True}, {"halfPixelCenters": True}], ids=str)
@pytest.mark.parametrize("make", [bilinear, nearest])
def test_images_of_any_ratio(make: Callable[..., Case], fields: dict[str, bool], dtype: str) -> None:
    """The reference kernels are 4, 6, 13 and 19 steps off at these ratios on int8, 2,486 on int16."""
    sizes = [(8, 24), (16, 48), (32, 96), (48, 144), (96, 37), (7, 100), (1, 5), (5, 1)]
    checked([make(*pair, **fields) for pair in sizes], dtype)


def test_a_softmax_of_many_classes() -> None:
    """A class far below the largest adds up to 1.5 steps to the sum of the int16 kernel: over 1,000 steps here."""
    checked([softmax(1500, 0.1), softmax(1500, 20.0), softmax(29, 9.0)], "int16")


def test_sums_that_float32_gets_wrong() -> None:
    """20,000 products up to 24,000 and back to about 5: what they are compared with is off by steps of 16 bits."""
    filters = np.sort(weights(5, 20000), axis=1)
    filters -= filters.mean(axis=1, keepdims=True)
    dense = case("FULLY_CONNECTED", (3, 20000), filters, None, o=options("FullyConnectedOptions"), low=2.9, high=3.0)
    checked([dense], "int16")


FAULTY = {
    "EXP": lambda: replace(case("EXP", X), low=-3.0, high=2.0),
    "LOG": lambda: case("LOG", X, low=0.1, high=2.0),
    "RSQRT": lambda: case("RSQRT", X, low=0.1, high=2.0),
    "GELU": lambda: case("GELU", X, o=options("GeluOptions", approximate=False)),
    "TANH": lambda: case("TANH", X),
    "LOGISTIC": lambda: case("LOGISTIC", X),
    "SOFTMAX": lambda: softmax(50, 3.0),
    "RESIZE_BILINEAR": lambda: bilinear(8, 13),
    "RESIZE_NEAREST_NEIGHBOR": lambda: nearest(8, 13),
    "MEAN": lambda: case("MEAN", X, ints(1, 2), o=options("ReducerOptions", keepDims=True)),
    "FULLY_CONNECTED": lambda: BASE["FULLY_CONNECTED"]((5, 2000, 7)),
    "CONV_2D": lambda: BASE["CONV_2D"]((1, 8, 9, 16, 5, 3)),
}
Change = Callable[[Graph, Op], tuple[Graph, Op]]


def with_tensor(graph: Graph, t: int, change: Callable[[Tensor], Tensor]) -> Graph:
    tensors = list(graph.main.tensors)
    tensors[t] = change(tensors[t])
    return replace(graph, subgraphs=(replace(graph.main, tensors=tuple(tensors)),))


def scale_off(tensor: Tensor) -> Tensor:
    assert tensor.quantization is not None
    return replace(
        tensor, quantization=replace(tensor.quantization, scale=tensor.quantization.scale * np.float32(1.05))
    )


def zero_point_off(tensor: Tensor) -> Tensor:
    assert tensor.quantization is not None
    return replace(tensor, quantization=replace(tensor.quantization, zero_point=tensor.quantization.zero_point + 5))


def swapped(graph: Graph) -> Graph:
    """Two operators of the same shape read each other's input."""
    return replace(graph, subgraphs=(replace(graph.main, ops=_crossed(graph)),))


def _crossed(graph: Graph) -> tuple[Op, ...]:
    ops = list(graph.main.ops)
    first, second = (o for o, op in enumerate(ops) if op.code not in {"QUANTIZE", "DEQUANTIZE"})
    ops[first], ops[second] = (
        replace(ops[first], inputs=(ops[second].inputs[0], *ops[first].inputs[1:])),
        replace(ops[second], inputs=(ops[first].inputs[0], *ops[second].inputs[1:])),
    )
    order = sorted(ops, key=lambda op: {"QUANTIZE": 0, "DEQUANTIZE": 2}.get(op.code, 1))
    return tuple(order)


def of_results(change: Callable[[Tensor], Tensor]) -> Callable[[Graph], Graph]:
    def changed(graph: Graph) -> Graph:
        for op in graph.main.ops:
            if op.code not in {"QUANTIZE", "DEQUANTIZE"}:
                graph = with_tensor(graph, op.outputs[0], change)
        return graph

    return changed


def of_inputs(change: Callable[[Tensor], Tensor]) -> Callable[[Graph], Graph]:
    def changed(graph: Graph) -> Graph:
        for op in graph.main.ops:
            if op.code == "QUANTIZE":
                graph = with_tensor(graph, op.outputs[0], change)
        return graph

    return changed


FAULTS = {
    "scale of results": of_results(scale_off),
    "scale of inputs": of_inputs(scale_off),
    "scales of both": lambda graph: of_results(scale_off)(of_inputs(scale_off)(graph)),
    "zero point of results": of_results(zero_point_off),
    "zero point of inputs": of_inputs(zero_point_off),
    "rows swapped": swapped,
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("code", FAULTY)
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_wrong_files_are_refused(code: str, dtype: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, samples = op_sweep.quantized([FAULTY[code](), FAULTY[code]()], dtype, np.random.default_rng(5))
    assert all(encoding.mode == "integer" for encoding in numbers.ops.values())

    def planted(given: object) -> Realized:
        made = realize(given)  # type: ignore[arg-type]
        return replace(made, graph=FAULTS[fault](made.graph))

    monkeypatch.setattr(writer, "realize", planted)
    with pytest.raises(TfqError, match=r"not handed over"):
        writer.write(numbers, samples)
