"""`simulate` against the kernels: what the twin computes is what the file computes."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfq_fine as tfq
from support.wrapped_models import (
    LAYERS,
    RECURRENT,
    all_outputs,
    file_outputs,
    images,
    layers_side_by_side,
    small_cnn,
    sqnr_db,
)
from tfq_converters import flatbuffer
from tfq_converters.graph import Graph, Op, Subgraph, Tensor
from tfq_converters.runtime import Runner
from tfq_fine.emulation import Interpreter
from tfq_fine.emulation.interpreter import refuse_unknown

CPU = Path("/proc/cpuinfo")
PLAIN = str.maketrans({" ": "_", ",": "_"})

pytestmark = pytest.mark.usefixtures("conversions_once")


def twin_outputs(model: Any, result: Any, data: Any) -> Any:
    return tfq.simulate(model, result).predict(data, verbose=0)


@pytest.mark.parametrize("recipe", ["full_int8", "full_w4a8", "dynamic_int8", "dynamic_int4"])
def test_files_with_rounded_activations_are_equal_bit_for_bit(recipe: str):
    """What the fast kernels compute of convolutions, depthwise ones, sums, means and dense layers."""
    model, data = small_cnn(), images()
    result = tfq.quantize(model, recipe, data=data)
    expected = file_outputs(result, data)
    np.testing.assert_array_equal(twin_outputs(model, result, data), expected)


CLOSE = {"full_int16x8": 100, "weight_only_int4_block32": 110}


@pytest.mark.parametrize("recipe", CLOSE)
def test_other_files_are_close(recipe: str):
    """Without rounded activations, the order of float sums is left to TensorFlow; int16 inputs part on ties."""
    model, data = small_cnn(), images()
    result = tfq.quantize(model, recipe, data=data)
    assert sqnr_db(twin_outputs(model, result, data), file_outputs(result, data)) > CLOSE[recipe]


@pytest.mark.parametrize("recipe", ["weight_only_int4", "full_int8"])
def test_layers_of_every_kind(recipe: str):
    names = [name for name in LAYERS if name not in RECURRENT]
    model, data = layers_side_by_side(names)
    result = tfq.quantize(model, recipe, data=data, prefer="size")
    found, expected = twin_outputs(model, result, data), all_outputs(result, data)
    least = 110 if recipe == "weight_only_int4" else 300  # in integers, no bit differs
    assert {name: db for name in names if (db := sqnr_db(found[name], expected[name])) < least} == {}


def test_a_recurrent_file_runs_one_sample_after_the_other():
    model, data = layers_side_by_side(["LSTM", "GRU"])
    result = tfq.quantize(model, "dynamic_int8")
    found, expected = twin_outputs(model, result, data), all_outputs(result, data)
    assert all(sqnr_db(found[name], expected[name]) > 120 for name in found)  # the last bits of exponentials


def test_a_transformer_block_with_an_embedding():
    ids = keras.Input((6,), dtype="int32", name="ids")
    x = layers.Embedding(13, 8)(ids) + layers.Embedding(6, 8)(np.arange(6)[None])
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(y, y)])
    x = layers.Dense(8, activation="gelu")(layers.LayerNormalization()(x))
    model = keras.Model({"ids": ids}, {"logits": layers.Dense(5)(layers.GlobalAveragePooling1D()(x))})
    data = {"ids": np.random.default_rng(0).integers(0, 13, (8, 6)).astype(np.int32)}
    # In integers, no bit differs; in float, roots and exponentials have other last bits, and codes part now and then
    for recipe, least in (("full_int8", 300), ("full_w4a8", 300), ("dynamic_int4_block32", 60)):
        result = tfq.quantize(model, recipe, data=data, prefer="size")
        found, expected = twin_outputs(model, result, data), all_outputs(result, data)
        assert sqnr_db(found["logits"], expected["logits"]) > least


def test_dynamic_range_is_equal_bit_for_bit():
    model, data = layers_side_by_side(["Dense", "Conv2D", "Conv2D-grouped", "Conv1D"])
    result = tfq.quantize(model, "dynamic_int8", prefer="size")
    found, expected = twin_outputs(model, result, data), all_outputs(result, data)
    assert unequal(found, expected) == {}


def unequal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> dict[str, int]:
    """The outputs that are not equal bit for bit, with how many of their values."""
    assert found.keys() == expected.keys()
    return {
        name: int(np.sum(found[name] != expected[name])) for name in expected if np.any(found[name] != expected[name])
    }


def _scores(values: Any) -> Any:
    """A product of two activations, as in attention."""
    flat = layers.Reshape((88, 5))(values)
    return layers.Dot((2, 2))([flat, flat])


FLOAT_SUMS: dict[str, Any] = {
    "depthwise": layers.DepthwiseConv2D((3, 5), padding="same", bias_initializer="random_normal"),
    "depthwise, stride": layers.DepthwiseConv2D((3, 5), strides=2, padding="same", bias_initializer="random_normal"),
    "depthwise, stride, valid": layers.DepthwiseConv2D((3, 5), strides=3, bias_initializer="random_normal"),
    "depthwise, dilated": layers.DepthwiseConv2D((3, 5), padding="same", dilation_rate=2),
    "conv": layers.Conv2D(7, 3, padding="same", bias_initializer="random_normal"),
    "conv, stride": layers.Conv2D(7, (3, 2), strides=(2, 3), padding="same", use_bias=False),
    "conv, dilated, valid": layers.Conv2D(7, 3, dilation_rate=2, activation="relu"),
    "conv of 1x1": layers.Conv2D(17, 1, bias_initializer="random_normal"),
    "conv, grouped": layers.Conv2D(10, 3, groups=5, bias_initializer="random_normal"),
    "dense": layers.Dense(13, bias_initializer="random_normal"),
    "scores": layers.Lambda(_scores),
    "mean": layers.GlobalAveragePooling2D(),
    "mean of rows": layers.Lambda(lambda values: keras.ops.mean(values, axis=1, keepdims=True)),
}


def float_outputs(float_layers: dict[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What the twin and the file give of layers in float, next to another whose input is rounded."""
    inputs = keras.Input((11, 8, 5))
    outputs = {name.translate(PLAIN): layer(inputs) for name, layer in float_layers.items()}
    model = keras.Model(inputs, {**outputs, "rounded": layers.Dense(3, name="rounds")(inputs)})
    dynamic = tfq.Rule(tfq.OpSpec("dynamic", tfq.WeightSpec()), layer="rounds")
    result = tfq.quantize(model, tfq.Recipe("half", tfq.OpSpec("float16"), (dynamic,)), prefer="size")
    data = np.random.default_rng(0).normal(size=(7, 11, 8, 5)).astype(np.float32)
    expected = all_outputs(result, {result.graph.input_names()[0]: data})
    found = twin_outputs(model, result, data)
    return {name: found[name] for name in outputs}, {name: expected[name] for name in outputs}


def test_float_sums_are_equal_bit_for_bit():
    """In a file that rounds activations somewhere, float kernels keep to the order that the twin follows."""
    assert unequal(*float_outputs(FLOAT_SUMS)) == {}


def test_float_depthwise_with_a_multiplier():
    """Another kernel, which adds in another order."""
    several = {
        f"times {n}": layers.DepthwiseConv2D(
            (3, 5), depth_multiplier=n, bias_initializer="random_normal", padding="same"
        )
        for n in (2, 3)
    }
    found, expected = float_outputs(several)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-6, err_msg=name)


def test_blocks_of_unlike_scales_are_added_one_after_the_other():
    """40 blocks in a row whose scales part by factors: float32 does not hold their sum exactly in another order."""
    inputs = keras.Input((3, 1280))
    layer = layers.Dense(17, bias_initializer="random_normal")
    model = keras.Model(inputs, layer(inputs))
    rng = np.random.default_rng(0)
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel * np.exp(2 * rng.normal(size=kernel.shape)), bias])
    result = tfq.quantize(model, "dynamic_int4_block32", prefer="size")
    assert any(t.quantization is not None and t.quantization.block_size for t in result.graph.main.tensors)
    data = rng.normal(size=(7, 3, 1280)).astype(np.float32)
    found, expected = twin_outputs(model, result, data), file_outputs(result, data)
    parted = np.mean(found != expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    assert parted == 0 or "avx512_vnni" not in CPU.read_text()  # other kernels begin with other codes


def test_sums_of_a_bias_and_another_tensor_keep_their_order():
    """(x + bias) + y of different layers, where TensorFlow's optimizer would begin with x + y."""
    inputs = keras.Input((5, 7, 32))
    x = layers.Dense(32, bias_initializer="random_normal", name="x")(inputs)
    y = layers.Dense(32, bias_initializer="random_normal", name="y")(inputs)
    model = keras.Model(inputs, layers.Dense(9)(layers.Add()([x, y]) * 3.7 * x))
    result = tfq.quantize(model, "dynamic_int4_block32", prefer="size")
    data = np.random.default_rng(0).normal(size=(40, 5, 7, 32)).astype(np.float32)
    np.testing.assert_array_equal(twin_outputs(model, result, data), file_outputs(result, data))


def test_sums_of_codes_are_equal_bit_for_bit():
    """Outputs reach twice as far as inputs, so that every other sum lies half way between two codes."""
    first, second = keras.Input((40, 50, 10), name="first"), keras.Input((40, 50, 10), name="second")
    sums = {"sum": layers.Add()([first, second]), "difference": layers.Subtract()([first, second])}
    model = keras.Model({"first": first, "second": second}, sums)
    rng = np.random.default_rng(0)
    data = {name: rng.uniform(-1, 1, (4, 40, 50, 10)).astype(np.float32) for name in ("first", "second")}
    data["first"][0, 0, 0, :4], data["second"][0, 0, 0, :4] = (1, 1, -1, -1), (1, -1, 1, -1)
    result = tfq.quantize(model, "full_int8", data=data)
    found, expected = twin_outputs(model, result, data), all_outputs(result, data)
    assert {op.code for op in result.graph.main.ops} == {"QUANTIZE", "ADD", "SUB", "DEQUANTIZE"}
    assert {name: int(np.sum(found[name] != expected[name])) for name in sums} == dict.fromkeys(sums, 0)


def test_other_scales_are_equal_bit_for_bit():
    """ReLU is a QUANTIZE from one scale to another, whose ratio XNNPACK cuts to 8 bits after the point."""
    inputs = keras.Input((40, 50, 10))
    model = keras.Model(inputs, layers.ReLU()(inputs))
    data = np.random.default_rng(0).uniform(-1, 0.7, (4, 40, 50, 10)).astype(np.float32)
    result = tfq.quantize(model, "full_int8", data=data)
    assert [op.code for op in result.graph.main.ops] == ["QUANTIZE", "QUANTIZE", "DEQUANTIZE"]
    np.testing.assert_array_equal(twin_outputs(model, result, data), file_outputs(result, data))


def test_integer_borders_are_those_of_the_file():
    model, data = small_cnn(), images()
    result = tfq.quantize(model, "full_int8", data=data, input_type="int8", output_type="int8")
    codes = np.random.default_rng(0).integers(-128, 128, data.shape).astype(np.int8)
    found = twin_outputs(model, result, codes)
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, file_outputs(result, codes))


def test_an_operator_that_is_not_simulated_is_named():
    tensors = (Tensor("x", (1, 4), "float32"), Tensor("y", (1, 4), "float32"))
    odd = Op("ATAN2", (0, 0), (1,), layer="angle")
    graph = Graph((Subgraph("main", tensors, (odd,), (0,), (1,)),))
    with pytest.raises(tfq.TfqError, match=r"angle \(ATAN2\): simulate does not know"):
        refuse_unknown(graph)


def test_a_file_of_another_model():
    result = tfq.quantize(small_cnn(), "dynamic_int8")
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    other = keras.Model([a, b], layers.Dense(2)(layers.Concatenate()([a, b])))
    with pytest.raises(tfq.TfqError, match="the file has inputs"):
        tfq.simulate(other, result)


@pytest.mark.parametrize("recipe", ["dynamic_int4", "dynamic_int8"])
def test_halves_between_codes_are_rounded_as_each_kernel_rounds_them(recipe: str):
    """Pixels of 1/128 over a range of 198/128: most lie between two codes. Float sums end in other last bits."""
    rng = np.random.default_rng(0)
    pixels = rng.choice(np.array([-95, -33, 33, 99, 103]), (3, 12, 14, 3)).astype(np.float32) / 128
    inputs = keras.Input((12, 14, 3))
    x = layers.Conv2D(5, 3, strides=2, padding="same")(inputs)
    result = tfq.quantize(keras.Model(inputs, x), recipe, prefer="size")
    graph, runner = flatbuffer.read(result.content), Runner(result.content)
    for pixel in pixels:
        found = Interpreter(graph)([tf.constant(pixel[None])])[0].numpy()
        np.testing.assert_allclose(found, runner.run([pixel[None]])[0], atol=1e-5)
