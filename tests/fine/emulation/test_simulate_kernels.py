"""The integer arithmetic of `simulate` against the kernels, operator by operator, on all or random codes: every bit."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import tfq_fine as tfq
from support.graphs import DENSE
from support.wrapped_models import all_outputs, calibrated, file_outputs, images, output_steps, small_cnn
from tfq_converters import flatbuffer
from tfq_converters.graph import Graph, Op, Options, Quantization, Subgraph, Tensor
from tfq_converters.graph_edit.parts import part
from tfq_converters.kernels.delegation import is_delegated
from tfq_converters.operators.facts import facts_of
from tfq_converters.runtime.runner import Runner
from tfq_fine.emulation.interpreter import Interpreter

ALL_CODES = {"int8": np.arange(-(2**7), 2**7), "int16": np.arange(-(2**15), 2**15)}


def random_codes(dtype: str, shape: Sequence[int]) -> np.ndarray:
    return np.random.default_rng(1).choice(ALL_CODES[dtype], shape).astype(dtype)


# name -> (shape of the input, layer): sides coprime, channels beyond a multiple of eight
LAYERS: dict[str, tuple[tuple[int, ...], Callable[[], Any]]] = {
    "conv": ((11, 9, 5), lambda: layers.Conv2D(13, 3, strides=2, padding="same")),
    "conv_relu6": ((11, 9, 5), lambda: layers.Conv2D(13, 3, activation="relu6")),
    "dilated": ((11, 9, 5), lambda: layers.Conv2D(7, 3, dilation_rate=2, padding="same")),
    "pointwise": ((11, 9, 5), lambda: layers.Conv2D(7, 1, use_bias=False)),
    "grouped": ((11, 9, 6), lambda: layers.Conv2D(8, 3, groups=2)),
    "depthwise": ((11, 9, 13), lambda: layers.DepthwiseConv2D(3)),
    "depthwise_multiplied": ((11, 9, 5), lambda: layers.DepthwiseConv2D(3, depth_multiplier=3)),
    "transposed": ((11, 9, 5), lambda: layers.Conv2DTranspose(7, 3, strides=2)),
    "one_dimension": ((31, 5), lambda: layers.Conv1D(7, 3)),
    **{f"dense_{inputs}": ((inputs,), lambda: layers.Dense(13)) for inputs in (7, 10, 12)},
    "dense_without_bias": ((7,), lambda: layers.Dense(13, use_bias=False)),
}


@cache
def side_by_side() -> tuple[Any, dict[str, np.ndarray]]:
    """A model of all layers, each with an input and an output, and random weights; data for ranges."""
    rng = np.random.default_rng(0)
    inputs = {name: keras.Input(shape, name=name) for name, (shape, _) in LAYERS.items()}
    model = keras.Model(list(inputs.values()), {name: LAYERS[name][1]()(x) for name, x in inputs.items()})
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape) * 0.5)
    return model, {name: rng.normal(size=(16, *shape)).astype(np.float32) for name, (shape, _) in LAYERS.items()}


@pytest.mark.parametrize("recipe", ["full_int8", "full_w4a8", "full_w2a8", "full_int16x8", "full_w4a16"])
def test_sums_of_products_on_all_kernels(recipe: str):
    """Bits and shapes that XNNPACK takes and does not; sums that overflow the output, and lie near halves."""
    model, data = side_by_side()
    kind = "int16" if recipe in ("full_int16x8", "full_w4a16") else "int8"
    result = tfq.quantize(model, recipe, data=data, prefer="size", input_type=kind, output_type=kind)
    codes = {name: random_codes(kind, values.shape) for name, values in data.items()}
    found, expected = tfq.simulate(model, result).predict(codes, verbose=0), all_outputs(result, codes)
    assert {name: int(np.sum(found[name] != expected[name])) for name in LAYERS} == dict.fromkeys(LAYERS, 0)
    assert min(len(np.unique(values)) for values in expected.values()) > 30  # of few codes, equality would say little
    check_delegation(result.graph)


def check_delegation(graph: Graph) -> None:
    """Each linear operator in a file of its own runs in the delegate or not, as the rules say."""
    for o, op in enumerate(graph.main.ops):
        if facts_of(op.code).linear:
            with flatbuffer.scratch(part(graph, [o]).graph) as path:
                runner = Runner(path)
            runner._interpreter.allocate_tensors()  # the delegate comes with it
            names = {row["op_name"] for row in runner._interpreter._get_ops_details()}
            assert is_delegated(op, graph.main) == ("DELEGATE" in names), op.code


def file_of(
    op: Op,
    dtype: str,
    shapes: Sequence[tuple[int, ...]],
    constants: Sequence[Tensor],
    out: Tensor,
    second: float = 0.031,
) -> Graph:
    """One operator; its inputs on scales and zero points of their own (0 on 16 bits), then constants."""
    inputs = tuple(range(len(shapes)))
    tensors = tuple(
        Tensor(f"x{slot}", shape, dtype, quantization=coded(scale, 5 - 9 * slot, dtype))
        for slot, (shape, scale) in enumerate(zip(shapes, (0.021, second), strict=False))
    )
    every = (*tensors, *constants, out)
    op = Op(op.code, tuple(range(len(every) - 1)), (len(every) - 1,), op.options)
    return Graph((Subgraph("main", every, (op,), inputs, (len(every) - 1,)),))


def coded(scale: float, zero: int, dtype: str) -> Quantization:
    short = dtype == "int16"
    return Quantization(np.array([scale / 256 if short else scale], np.float32), np.array([0 if short else zero]))


def found_and_expected(graph: Graph, codes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    with flatbuffer.scratch(graph) as path:
        expected = Runner(path).run(codes)[0]
    return np.asarray(Interpreter(graph)(codes)[0]), expected


FUSED = {"fusedActivationFunction": 1}
# operator -> options; two inputs: equal shapes, and one value for every row
BINARY = {
    "ADD": Options("AddOptions", {**FUSED, "potScaleInt16": False}),
    "SUB": Options("SubOptions", {**FUSED, "potScaleInt16": False}),
    "MUL": Options("MulOptions", FUSED),
    "SQUARED_DIFFERENCE": None,
}


@pytest.mark.parametrize("scale", [0.031, 0.00001], ids=["near", "far"])  # XNNPACK leaves ratios far from 1 to others
@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("code", BINARY)
def test_two_operands(code: str, dtype: str, scale: float):
    if (code, dtype) == ("SQUARED_DIFFERENCE", "int16"):
        pytest.skip("no such kernel")
    for second in ((48, 64), (48, 1)):
        out = Tensor("y", (48, 64), dtype, quantization=coded(0.033, 3, dtype))
        graph = file_of(Op(code, (), (), BINARY[code]), dtype, ((48, 64), second), (), out, scale)
        codes = [random_codes(dtype, (48, 64)), random_codes(dtype, (64, 48)).T[: second[0], : second[1]].copy()]
        np.testing.assert_array_equal(*found_and_expected(graph, codes))


# (operator, type) -> (options, scale of the output, zero point)
UNARY: dict[tuple[str, str], tuple[Options | None, float, int]] = {
    ("QUANTIZE", "int8"): (None, 0.017, 9),
    ("QUANTIZE", "int16"): (None, 0.017, 0),
    ("LEAKY_RELU", "int8"): (Options("LeakyReluOptions", {"alpha": 0.23}), 0.017, 9),
    ("LEAKY_RELU", "int16"): (Options("LeakyReluOptions", {"alpha": 0.23}), 0.017, 0),
    ("HARD_SWISH", "int8"): (None, 0.017, -100),
    ("LOGISTIC", "int16"): (None, 256 / 2**15, 0),
    ("TANH", "int16"): (None, 256 / 2**15, 0),
    ("RSQRT", "int16"): (None, 0.9, 0),
    ("EXP", "int16"): (None, 0.05, 0),
    ("GELU", "int16"): (Options("GeluOptions", {"approximate": True}), 0.017, 0),
}


@pytest.mark.parametrize(("code", "dtype"), UNARY)
def test_one_operand_on_all_codes(code: str, dtype: str):
    options, scale, zero = UNARY[code, dtype]
    codes = ALL_CODES[dtype].astype(dtype)
    codes = codes[codes > 0] if code == "RSQRT" else codes
    out = Tensor("y", codes.shape, dtype, quantization=coded(scale, zero, dtype))
    graph = file_of(Op(code, (), (), options), dtype, (codes.shape,), (), out)
    found, expected = found_and_expected(graph, [codes])
    if code == "GELU":  # tanh in float32 differs in its last bit, which moves one anchor of the table in hundreds
        assert np.abs(found - expected).max() <= 1
    assert np.mean(found != expected) <= (0.005 if code == "GELU" else 0)


@pytest.mark.parametrize(("source", "target"), [("int8", "int16"), ("int16", "int8"), ("uint8", "int8")])
def test_other_types(source: str, target: str):
    limits = np.iinfo(source)
    codes = np.arange(limits.min, limits.max + 1).astype(source)
    out = Tensor("y", codes.shape, target, quantization=coded(0.017, 9, target))
    np.testing.assert_array_equal(
        *found_and_expected(file_of(Op("QUANTIZE", (), ()), source, (codes.shape,), (), out), [codes])
    )


def test_roots_are_cut():
    codes = np.arange(5, 128).astype(np.int8)
    out = Tensor("y", codes.shape, "int8", quantization=coded(0.013, -20, "int8"))
    np.testing.assert_array_equal(
        *found_and_expected(file_of(Op("SQRT", (), ()), "int8", (codes.shape,), (), out), [codes])
    )


@pytest.mark.parametrize("axes", [(1, 2), (3,)])
def test_means_of_16_bits(axes: tuple[int, ...]):
    shape = (3, 7, 5, 11)
    kept = tuple(size for axis, size in enumerate(shape) if axis not in axes)
    out = Tensor("y", kept, "int16", quantization=coded(0.013, 0, "int16"))
    over = Tensor("axes", (len(axes),), "int32", data=np.array(axes, np.int32))
    graph = file_of(Op("MEAN", (), (), Options("ReducerOptions", {"keepDims": False})), "int16", (shape,), (over,), out)
    np.testing.assert_array_equal(*found_and_expected(graph, [random_codes("int16", shape)]))


def test_softmax_of_16_bits():
    out = Tensor("y", (50, 37), "int16", quantization=coded(256 / 2**15, 0, "int16"))
    graph = file_of(Op("SOFTMAX", (), (), Options("SoftmaxOptions", {"beta": 1.0})), "int16", ((50, 37),), (), out)
    codes = (random_codes("int16", (50, 37)) * np.linspace(0.01, 1, 50)[:, None]).astype(
        np.int16
    )  # flat and steep rows
    np.testing.assert_array_equal(*found_and_expected(graph, [codes]))


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("corners", ["alignCorners", "halfPixelCenters", "neither"])
def test_resizing(corners: str, dtype: str):
    """To sides that weights of 11 bits do not express exactly."""
    names = ("alignCorners", "halfPixelCenters")
    options = Options("ResizeBilinearOptions", {name: name == corners for name in names})
    out = Tensor("y", (2, 16, 13, 5), dtype, quantization=coded(0.021, 5, dtype))
    size = Tensor("size", (2,), "int32", data=np.array([16, 13], np.int32))
    graph = file_of(Op("RESIZE_BILINEAR", (), (), options), dtype, ((2, 7, 9, 5),), (size,), out)
    np.testing.assert_array_equal(*found_and_expected(graph, [random_codes(dtype, (2, 7, 9, 5))]))


@pytest.mark.parametrize("recipe", ["full_w4a8", "full_w2a8"])
def test_whole_models_of_few_bits(recipe: str):
    """What wrapped models take: 4 and 2 bits wherever any kernel takes them."""
    model, data = small_cnn(), images()
    wrapped = calibrated(model, recipe, data)
    results = (tfq.quantize(model, recipe, data=data, prefer="size"), tfq.quantize(wrapped, data=data))
    for source, result in zip((model, wrapped), results, strict=True):
        found = tfq.simulate(source, result).predict(data, verbose=0)
        assert "int4" in {tensor.dtype for tensor in result.graph.main.tensors}
        np.testing.assert_array_equal(found, file_outputs(result, data))
        assert len(np.unique(found)) > 30 and output_steps(result)


@pytest.mark.parametrize("output", [2.0**-6, 2.0**-7, 0.0123], ids=["quarters of codes", "eighths", "any"])
def test_halves_of_dense_layers_of_16_bits(output: float):
    """All codes times 7; where the ratio is a power of two, many results lie between two codes."""
    codes = np.arange(-(2**15), 2**15, dtype=np.int16)[:, None]
    tensors = (
        Tensor("x", codes.shape, "int16", quantization=one_scale(2.0**-10)),
        Tensor("w", (1, 1), "int8", data=np.array([[7]], np.int8), quantization=one_scale(1.0)),
        Tensor("b", (1,), "int64", data=np.array([3], np.int64), quantization=one_scale(2.0**-10)),
        Tensor("y", codes.shape, "int16", quantization=one_scale(output)),
    )
    op = Op("FULLY_CONNECTED", (0, 1, 2), (3,), Options("FullyConnectedOptions", DENSE))
    found, expected = found_and_expected(Graph((Subgraph("main", tensors, (op,), (0,), (3,)),)), [codes])
    np.testing.assert_array_equal(found, expected)


def one_scale(scale: float) -> Quantization:
    return Quantization(np.array([scale], np.float32), np.zeros(1, np.int64))
