"""The wrappers' arithmetic against `affine` and the LSQ paper: equal to the last bit, also compiled by XLA."""

from typing import Literal

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given

from support.strategies import ranges
from tfq_fine.emulation import affine_tf as arithmetic
from tfq_fine.layers.activation_range import ActivationRange
from tfq_fine.numerics import affine
from tfq_fine.numerics.affine import CodeFormat

BLOCKS = {
    "per-tensor": (7, 3, 5, 11),
    "per-channel": (1, 3, 5, 11),
    "groups that leave a short one": (3, 3, 5, 11),
    "blocks that leave a short one": (1, 1, 1, 4),
    "blocks over the window": (1, 3, 5, 4),
}
FORMATS = {
    "int8": CodeFormat(8),
    "int4 of bfloat16 scales": CodeFormat(4, scales="bfloat16"),
    "int4 of float16 scales": CodeFormat(4, scales="float16"),
    "int2": CodeFormat(2),
    "asymmetric int4": CodeFormat(4, symmetric=False),
}


def simulated(values: tf.Tensor, block: tuple[int, ...], form: CodeFormat) -> tf.Tensor:
    scale, zero = arithmetic.weight_scale(*arithmetic.block_extent(values, block), form)
    scale, zero = (arithmetic.expanded(part, block, tuple(values.shape)) for part in (scale, zero))
    return arithmetic.fake_quantized(values, scale, zero, form.lowest, form.highest)


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_weights_equal_affine_to_the_last_bit(block: tuple[int, ...], form: CodeFormat):
    values = np.random.default_rng(0).normal(size=(7, 3, 5, 11)).astype(np.float32)
    expected = affine.encode_weight(values, block, form).dequantize()
    compiled = [tf.function(simulated, jit_compile=True)] if block in ((7, 3, 5, 11), (1, 1, 1, 4)) else []
    for function in (simulated, *compiled):
        np.testing.assert_array_equal(np.asarray(function(tf.constant(values), block, form)), expected)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("limits", [(-1.3, 2.9), (0.0, 6.0), (0.2, 0.9), (-0.7, -0.1)])
def test_activations_equal_the_encoding_of_the_file(bits: int, limits: tuple[float, float]):
    owner = keras.layers.Layer()
    found = ActivationRange(owner, "x", bits, False, 0.99, None)
    found.observe(tf.constant(limits))
    values = np.random.default_rng(0).normal(size=(3, 101)).astype(np.float32) * 3
    encoding = affine.activation_encoding(*found.limits(), bits)
    on_codes = np.asarray(found.quantized(tf.constant(values), training=False))
    away = np.abs(on_codes - encoding.decode(encoding.encode(values))) / encoding.scale
    assert away.max() < 1.01 and np.mean(away > 0.01) < 0.01  # float32 and float64 may part on a rounding boundary


@pytest.mark.parametrize("scales", ["float32", "float16"])
def test_ranges_turned_round_have_negative_scales(scales: Literal["float32", "float16"]):
    form = CodeFormat(2, scales=scales, full_range=True)
    low, high = np.array([-3.0, -0.2, 0.7, 0.0], np.float32), np.array([1.0, 0.7, -0.2, 0.0], np.float32)
    expected, _ = affine.weight_scale(low, high, form)
    np.testing.assert_allclose(expected, [3.0, 0.7, -0.7, 1.0], rtol=2.0**-11)
    np.testing.assert_array_equal(np.asarray(arithmetic.weight_scale(low, high, form)[0]), expected)


def test_a_learned_scale_keeps_its_sign():
    """A step moves it as it moves a positive one, by the gradient of the scale itself."""
    times, start = tf.constant([1.5, 1.5]), tf.constant([0.2, -0.2])
    with tf.GradientTape() as tape:
        tape.watch(times)
        used = arithmetic.learned_scale(times, start, 4, 1)
        total = tf.reduce_sum(used)
    np.testing.assert_allclose(np.asarray(used), [0.3, -0.3], rtol=1e-6)
    moved = np.asarray(tape.gradient(total, times)) * np.asarray(start)  # a step of size 1, downhill
    np.testing.assert_allclose(moved, [0.5, 0.5], rtol=1e-6)  # 1 / sqrt(4 * 1)


@pytest.mark.parametrize("bits", [8, 16])
def test_the_range_of_a_learned_step_gives_that_step_back(bits: int):
    found = ActivationRange(keras.layers.Layer(), "x", bits, True, 0.99, None)
    found.observe(tf.constant([-0.37, 1.91]))
    found.settle()
    found.step.times.assign(1.2345)
    encoding = affine.activation_encoding(*found.limits(), bits)
    assert np.float32(encoding.scale) == found.step.numpy()
    assert encoding.zero_point == int(np.asarray(found.zero))


def test_gradients_are_those_of_lsq():
    """Equation 3 of the paper: round(v / s) - v / s within the range, the outermost code beyond it; times g.

    What is trained is a multiple of the start: a step of size 1 against its gradient moves the scale by start times it.
    """
    form, start, times = CodeFormat(4), 0.2, tf.constant([1.55], tf.float32)
    values = tf.constant([0.1, 0.4, -0.7, 5.0, -5.0, 1.0], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([values, times])
        used = arithmetic.learned_scale(times, tf.constant([start], tf.float32), 6, form.highest)
        total = tf.reduce_sum(arithmetic.fake_quantized(values, used, 0.0, form.lowest, form.highest))
    by_values, by_times = tape.gradient(total, [values, times])
    ratio = np.asarray(values) / np.asarray(used)
    np.testing.assert_allclose(np.asarray(used), [0.31], rtol=1e-6)
    inside = np.abs(ratio) < 7
    expected = np.where(inside, np.rint(ratio) - ratio, np.sign(ratio) * 7).sum() / np.sqrt(6 * 7)
    np.testing.assert_array_equal(np.asarray(by_values), inside.astype(np.float32))
    np.testing.assert_allclose(np.asarray(by_times) * start, [expected], rtol=1e-5)  # a sum of six float32


def test_a_moving_average_stops_when_it_is_frozen():
    found = ActivationRange(keras.layers.Layer(), "x", 8, False, 0.9, 3)
    found.observe(tf.constant([-1.0, 1.0]))
    highs = []
    for _ in range(5):
        found.quantized(tf.constant([-1.0, 2.0]), training=True)
        highs.append(float(np.asarray(found.high)))
    expected = [1 + 1 - 0.9**n for n in (1, 2, 3, 3, 3)]
    np.testing.assert_allclose(highs, expected, rtol=1e-6)


@pytest.mark.parametrize("jit", [False, True], ids=["plain", "jit"])
def test_each_phase_of_a_dilation_is_quantized_by_itself(jit: bool):
    values = np.random.default_rng(0).normal(size=(2, 11, 7, 5)).astype(np.float32)
    by_phase = tf.function(lambda x: arithmetic.dynamic_by_phase(x, (3, 2)), jit_compile=jit)
    found = np.asarray(by_phase(tf.constant(values)))
    for row, column in np.ndindex(3, 2):
        expected = arithmetic.dynamic(tf.constant(values[:, row::3, column::2]), (1, 2, 3))
        np.testing.assert_allclose(found[:, row::3, column::2], expected, rtol=1e-6)  # XLA divides another way


def test_the_run_check_rounds_as_the_kernels_do() -> None:
    """One of its emulations has the codes of values that come from integers, which lie on boundaries in many rows."""
    from tfq_converters.check.tolerance import emulated_inputs

    codes = np.random.default_rng(0).integers(-100, 156, (5000, 40)).astype(np.float32)
    values = codes * np.float32(0.17)
    expected = arithmetic.dynamic(tf.constant(values), (-1,)).numpy()
    off = [float(np.abs(seen - expected).max()) for seen in emulated_inputs(values)]
    assert min(off) < 1e-5  # a step is 0.15
    assert sorted(off)[1] > 0.05  # no other one has them


@given(ranges())
def test_wrappers_choose_the_same_encoding(extent: tuple[float, float]) -> None:
    expected = affine.activation_encoding(*extent, 8)
    low, high = (tf.constant(end, tf.float64) for end in extent)
    scale, zero = arithmetic.activation_scale(low, high, 8)
    assert (float(scale), int(zero)) == (expected.scale, expected.zero_point)
