"""The file of a wrapped model holds and computes what its wrappers simulate, for every layer type."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import tfq_fine as tfq
from support.wrapped_models import (
    LAYERS,
    RECURRENT,
    all_outputs,
    calibrated,
    file_outputs,
    images,
    layers_side_by_side,
    output_steps,
    small_cnn,
    sqnr_db,
)
from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms import ALGORITHMS, Algorithm, WeightProblem
from tfq_fine.layers.kernel_scales import quantized_values
from tfq_fine.layers.layer_table import ROWS, to_op
from tfq_fine.layers.wrapped import wrappers
from tfq_fine.numerics import affine

pytestmark = pytest.mark.usefixtures("conversions_once")
RNG = np.random.default_rng(0)


def test_every_row_is_tested():
    assert set(ROWS) - {name.split("-")[0] for name in LAYERS} == {"GroupedQueryAttention", "Embedding"}


@pytest.mark.parametrize("recurrent", [False, True], ids=["plain", "recurrent"])
def test_weight_only_files_compute_what_the_wrappers_do(recurrent: bool):
    names = [name for name in LAYERS if (name in RECURRENT) == recurrent]
    model, data = layers_side_by_side(names)
    wrapped = calibrated(model, "weight_only_int4", data)
    assert len(wrappers(wrapped)) == len(names)
    found = all_outputs(tfq.quantize(wrapped), data)
    simulated, floats = wrapped(list(data.values())), model(list(data.values()))
    for name in names:
        expected = np.asarray(simulated[name])
        away = np.abs(found[name] - expected).max()
        assert away <= 1e-5 * np.abs(expected).max(), name  # another order of float32 sums
        assert sqnr_db(expected, np.asarray(floats[name])) < 35, name  # it is quantized at all


def test_full_integer_files_are_within_one_step():
    names = [
        "Dense",
        "Conv2D",
        "Conv2D-grouped",
        "DepthwiseConv1D",
        "DepthwiseConv2D",
        "SeparableConv1D",
        "SeparableConv2D",
        "Conv1DTranspose",
        "Conv2DTranspose",
        "TimeDistributed-Dense",
        "TimeDistributed-Conv2D",
        "TimeDistributed-SeparableConv1D",
    ]
    model, data = layers_side_by_side(names)
    wrapped = calibrated(model, "full_int8", data)
    result = tfq.quantize(wrapped, data=data)
    found, simulated, steps = all_outputs(result, data), wrapped(list(data.values())), output_steps(result)
    for name in names:
        assert np.abs(found[name] - np.asarray(simulated[name])).max() <= 1.001 * steps[name], name


@pytest.mark.parametrize("recurrent", [False, True], ids=["plain", "recurrent"])
@pytest.mark.parametrize("recipe", ["dynamic_int8", "dynamic_int4"])
def test_dynamic_files_quantize_their_inputs_as_the_wrappers_do(recipe: str, recurrent: bool):
    """Also inside layers: 130 dB and more, by the order of float sums, 65 where that moves a state by one step.

    Where an input stays float, 52 and less; of dilated convolutions, where the file has an image for every phase of the
    dilation, it was 44; in loops, where it quantizes input and state at every step, 37.
    """
    names = [name for name in LAYERS if (name in RECURRENT) == recurrent]
    model, data = layers_side_by_side(names)
    wrapped = calibrated(model, recipe, data)
    found, simulated = all_outputs(tfq.quantize(wrapped), data), wrapped(list(data.values()))
    for name in names:
        assert sqnr_db(found[name], np.asarray(simulated[name])) > 60, name


def test_a_dilation_is_left_to_the_kernel_where_the_batch_is_fixed():
    """One range for each image; by phases it would be 44 dB."""
    inputs, data = keras.Input(batch_shape=(1, 11, 9, 5)), RNG.normal(size=(1, 11, 9, 5)).astype(np.float32)
    model = keras.Model(inputs, layers.Conv2D(7, 3, dilation_rate=2)(inputs))
    wrapped = calibrated(model, "dynamic_int8", data)
    result = tfq.quantize(wrapped, data=data)
    assert [op.code for op in result.graph.main.ops] == ["CONV_2D"]
    assert sqnr_db(file_outputs(result, data), np.asarray(wrapped(data))) > 70


def attention() -> tuple[Any, dict[str, np.ndarray]]:
    """Attention over three tensors of different shapes, and their samples by name."""
    rng = np.random.default_rng(0)
    shapes = {"query": (5, 12), "value": (7, 10), "key": (7, 9)}
    given = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    outputs = layers.MultiHeadAttention(3, 4)(*given.values())
    data = {name: rng.normal(size=(8, *x.shape[1:])).astype(np.float32) for name, x in given.items()}
    return keras.Model(given, outputs), data


def before_the_output(model: Any, data: dict[str, np.ndarray]) -> np.ndarray:
    """What the output projection of the attention reads, by numpy."""
    weights = [np.asarray(weight) for weight in model.weights]
    query, key, value = (
        np.einsum("btc,chd->bthd", data[name], kernel) + bias
        for name, kernel, bias in zip(("query", "key", "value"), weights[0:6:2], weights[1:6:2], strict=True)
    )
    scores = np.exp(np.einsum("bthd,bshd->bhts", query, key) / np.sqrt(query.shape[-1]))
    return np.einsum("bhts,bshd->bthd", scores / scores.sum(-1, keepdims=True), value)


@pytest.mark.parametrize(("recipe", "least"), [("dynamic_int8", 70), ("full_int16x8", 60)])
def test_attention_over_three_tensors(recipe: str, least: float):
    """In integers, 16-bit scores and probabilities remain that the wrapper does not round."""
    model, data = attention()
    wrapped = calibrated(model, recipe, data)
    (found,) = all_outputs(tfq.quantize(wrapped, data=data), data).values()
    assert sqnr_db(found, np.asarray(wrapped(data))) > least


def test_a_range_inside_attention_is_observed_averaged_and_written():
    model, data = attention()
    wrapped = calibrated(model, "full_int8", data)
    (wrapper,) = wrappers(wrapped)
    (inside,) = [q.inside for q in wrapper.kernels if q.inside is not None]
    low, high = inside.limits()
    expected = before_the_output(model, data)
    np.testing.assert_allclose((low, high), (expected.min(), expected.max()), rtol=1e-5)  # float32 sums
    wrapped({name: values * 4 for name, values in data.items()}, training=True)
    assert inside.limits()[0] < low and inside.limits()[1] > high
    inside.low.assign(-50.0)
    inside.high.assign(100.0)
    main = tfq.quantize(wrapped, data=data).graph.main
    last = [op for op in main.ops if op.code == "FULLY_CONNECTED"][-1]
    assert main.tensors[last.inputs[0]].quantization.scale == np.float32(150 / 255)


SPECS = {
    "int4 blocks of 32, dynamic: bfloat16 scales": ("dynamic", tfq.WeightSpec(4, tfq.Blocks(32))),
    "int4 blocks of 16, weight-only: float16 scales": ("weight_only", tfq.WeightSpec(4, tfq.Blocks(16))),
    "int8 blocks, split": ("dynamic", tfq.WeightSpec(8, tfq.Blocks(32))),
    "int2 per tensor": ("dynamic", tfq.WeightSpec(2, tfq.PerTensor())),
    "int4 groups, clipped": ("weight_only", tfq.WeightSpec(4, tfq.ChannelGroups(3), algorithm="mse_clip")),
    "int4 asymmetric": ("weight_only", tfq.WeightSpec(4, symmetric=False)),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_weights_in_the_file_equal_the_simulated_ones_to_the_last_bit(spec: tuple):
    mode, weights = spec
    inputs = keras.Input((64,))
    model = keras.Model(inputs, tfq.layers.FineQuantize(layers.Dense(7), weights, mode=mode)(inputs))
    tfq.calibrate(model, np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32))
    (wrapper,) = wrappers(model)
    (q,) = wrapper.kernels
    simulated = to_op(np.asarray(quantized_values(q)), q.layout)
    (codes,) = [
        code for op in tfq.quantize(model).quantized.ops.values() for code in op.weights.values()
        if isinstance(code, WeightCodes)
    ]  # fmt: skip
    np.testing.assert_array_equal(codes.dequantize(), simulated)
    assert not np.array_equal(simulated, q.values)


def test_an_embedding_is_looked_up_as_simulated():
    inputs = keras.Input((6,), dtype="int32")
    model = keras.Model(inputs, layers.Embedding(13, 9)(inputs))
    ids = np.random.default_rng(0).integers(0, 13, (8, 6)).astype(np.int32)
    wrapped = calibrated(model, "full_w4a8", ids)
    np.testing.assert_array_equal(file_outputs(tfq.quantize(wrapped, data=ids), ids), np.asarray(wrapped(ids)))


@pytest.mark.parametrize(
    ("recipe", "least"), [("full_w4a8", 38), ("full_int8", 38), ("dynamic_int4_block32", 50), ("weight_only_int4", 110)]
)
def test_a_small_cnn(recipe: str, least: float):
    """Integer files differ by single steps of 8 bits (40 dB), where the wrappers round sums that float32 does not."""
    model, data = small_cnn(), images()
    wrapped = calibrated(model, recipe, data)
    result = tfq.quantize(wrapped, data=data)
    assert sqnr_db(file_outputs(result, data), np.asarray(wrapped(data))) > least


@pytest.mark.parametrize("learned", [False, True], ids=["followed", "learned"])
@pytest.mark.parametrize(
    "spec",
    [
        tfq.WeightSpec(4, algorithm="mse_clip"),  # "auto" is that for wrappers, which are trained; not for `quantize`
        tfq.WeightSpec(2, tfq.Blocks(5), algorithm="mse_clip"),
        tfq.WeightSpec(2, tfq.Blocks(5), algorithm="hqq"),
    ],
)
def test_the_codes_of_wrappers_are_those_of_quantize(spec: tfq.WeightSpec, learned: bool):
    """Also where scales are negative, so that the one code more is at the other end: of blocks, weight-only."""
    model, data = small_cnn(), images()
    recipe = tfq.Recipe("weights", tfq.OpSpec("weight_only", spec), flexible=True)
    plain = tfq.quantize(model, recipe, data=data, quality="fast", transforms=None).quantized.ops
    wrapped = tfq.quantize(calibrated(model, recipe, data, learned=learned), transforms=None).quantized.ops
    negative = 0
    for key, encoding in plain.items():
        for slot, codes in encoding.weights.items():
            other = wrapped[key].weights[slot]
            assert isinstance(codes, WeightCodes) and isinstance(other, WeightCodes)
            np.testing.assert_array_equal(other.codes, codes.codes)
            np.testing.assert_allclose(other.scale, codes.scale, rtol=1e-6)
            negative += int((codes.scale < 0).sum())
    assert (negative > 0) == isinstance(spec.granularity, tfq.Blocks)


def test_ranges_are_those_of_the_wrappers_not_of_the_data():
    model, data = small_cnn(), images()
    wrapped = calibrated(model, "full_int8", data)
    head = next(wrapper for wrapper in wrappers(wrapped) if wrapper.name == "head")
    head.output_range.high.assign(100.0)
    head.output_range.low.assign(-50.0)
    result = tfq.quantize(wrapped, data=data)
    assert list(output_steps(result).values()) == [np.float32(150 / 255)]


def test_batch_norm_that_was_not_folded_scales_the_channels():
    inputs = keras.Input((9, 7, 3))
    spec = tfq.WeightSpec(4)
    x = tfq.layers.FineQuantize(layers.Conv2D(6, 3), spec)(inputs)
    model = keras.Model(inputs, layers.BatchNormalization()(x))
    model.layers[-1].set_weights([np.array([1, -2, 0.5, 3, 1, 2.0]), np.ones(6), np.zeros(6), np.full(6, 0.7)])
    data = np.random.default_rng(0).normal(size=(4, 9, 7, 3)).astype(np.float32)
    tfq.calibrate(model, data)
    expected = np.asarray(model(data))
    found = file_outputs(tfq.quantize(model), data)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_what_is_not_wrapped_follows_the_recipe():
    inputs = keras.Input((16,))
    wrapped = tfq.layers.FineQuantize(layers.Dense(12, name="fine"), tfq.WeightSpec(4))(inputs)
    model = keras.Model(inputs, layers.Dense(11, name="rest")(wrapped))
    tfq.calibrate(model, np.zeros((2, 16), np.float32))
    for recipe, bits in ((None, {4}), ("weight_only_int8", {4, 8})):
        ops = tfq.quantize(model, recipe).quantized.ops.values()
        codes = [code for op in ops for code in op.weights.values() if isinstance(code, WeightCodes)]
        assert {code.bits for code in codes} == bits


def by_mean(problem: WeightProblem) -> WeightCodes:
    """Choose a part of each range that depends on the mean of every input channel, and on their order."""
    mean, form = problem.inputs.mean, problem.codes
    assert mean is not None and problem.axes is not None
    low, high = affine.block_extent(problem.weight, problem.block)
    share = np.float32(0.7 + 0.2 * np.sin(np.arange(1, len(mean) + 1) / len(mean) @ mean))
    scale, zero_point = affine.weight_scale(low * share, high * share, form)
    return affine.encode(problem.weight, problem.block, scale, zero_point, form)


def weight_codes(result: Any) -> list[np.ndarray]:
    """All codes of 4 bits, by layer and shape: the converter's order of operators is its own."""
    ops = dict(result.quantized.graph.ops())
    every = [(ops[key].layer, codes) for key, op in result.quantized.ops.items() for codes in op.weights.values()]
    found = [(layer, codes.codes) for layer, codes in every if isinstance(codes, WeightCodes) and codes.bits == 4]
    return [codes for _, codes in sorted(found, key=lambda item: (item[0], item[1].shape))]


@pytest.mark.parametrize("mode", ["integer", "weight_only"])
def test_algorithms_know_the_same_of_the_inputs_in_wrappers_and_in_quantize(mode: Any, monkeypatch: pytest.MonkeyPatch):
    solved: list[WeightProblem] = []

    def recorded(problem: WeightProblem) -> WeightCodes:
        solved.append(problem)
        return by_mean(problem)

    monkeypatch.setitem(ALGORITHMS, "by_mean", Algorithm(recorded, frozenset({"channel_mean"})))
    names = ["EinsumDense", "Conv2D", "Conv2D-grouped", "DepthwiseConv2D", "SeparableConv1D", "MultiHeadAttention"]
    count = 1 + 1 + 1 + 1 + 2 + 4
    model, data = layers_side_by_side(names)
    data = {name: values + RNG.normal(size=values.shape[-1]).astype(np.float32) for name, values in data.items()}
    activations = tfq.ActivationSpec(8) if mode == "integer" else None
    recipe = tfq.Recipe("by mean", tfq.OpSpec(mode, tfq.WeightSpec(4, algorithm="by_mean"), activations), flexible=True)
    wrapped = calibrated(model, recipe, data)
    assert len(solved) == count  # with the data; before it, weights are rounded to nearest
    found = weight_codes(tfq.quantize(wrapped, data=data))
    expected = weight_codes(tfq.quantize(model, recipe, data=data, transforms=["bias_correction"], prefer="size"))
    assert len(found) == count and len(solved) >= 2 * count
    for of_wrapper, of_file in zip(found, expected, strict=True):
        np.testing.assert_array_equal(of_wrapper, of_file)


@pytest.mark.parametrize("granularity", [tfq.PerTensor(), tfq.ChannelGroups(4)], ids=str)
def test_a_kernel_that_the_converter_cuts_keeps_its_scales(granularity: Any):
    """Of 21 channels of a GRU, 14 and 7 stand in two constants; the second begins inside a group of four."""
    inputs = keras.Input((6, 5))
    gru = layers.GRU(7, reset_after=False)
    wrapped = keras.Model(
        inputs, tfq.layers.FineQuantize(gru, tfq.WeightSpec(4, granularity), mode="weight_only")(inputs)
    )
    data = np.random.default_rng(0).normal(size=(8, 6, 5)).astype(np.float32)
    tfq.calibrate(wrapped, data)
    result = tfq.quantize(wrapped)
    expected = np.asarray(wrapped(data))
    assert np.abs(file_outputs(result, data) - expected).max() <= 1e-5 * np.abs(expected).max()  # order of float32 sums
    (wrapper,) = wrappers(wrapped)
    kernel = wrapper.kernels[1]
    codes = [c for op in result.quantized.ops.values() for c in op.weights.values() if isinstance(c, WeightCodes)]
    pieces = sorted((c for c in codes if c.codes.shape[1] == 7), key=lambda c: -len(c.codes))
    simulated = to_op(np.asarray(quantized_values(kernel)), kernel.layout)
    np.testing.assert_array_equal(np.concatenate([c.dequantize() for c in pieces]), simulated)


@pytest.mark.parametrize("implementation", [1, 2])
def test_dropout_in_a_gru_that_resets_before(implementation: int):
    """With the seed of its masks set back, a step in training is that of the cell, over the quantized kernels."""
    inputs = keras.Input((6, 5))
    gru = layers.GRU(7, reset_after=False, dropout=0.3, recurrent_dropout=0.2, implementation=implementation, seed=1)
    wrapped = keras.Model(inputs, tfq.layers.FineQuantize(gru, tfq.WeightSpec(8), mode="weight_only")(inputs))
    data = np.random.default_rng(0).normal(size=(8, 6, 5)).astype(np.float32)
    seed = np.asarray(gru.cell.seed_generator.state)
    found = np.asarray(wrapped(data, training=True))
    (wrapper,) = wrappers(wrapped)
    for q in wrapper.kernels:
        q.variable.assign(quantized_values(q))
    gru.cell.seed_generator.state.assign(seed)
    np.testing.assert_allclose(found, np.asarray(gru(data, training=True)), atol=1e-5)  # order of float32 sums
    assert np.abs(found - np.asarray(wrapped(data))).max() > 0.01
