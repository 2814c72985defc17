"""The arithmetic core against bounds from theory, on shapes whose sides are coprime."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfq_converters.packing import pack, unpack
from tfq_fine import affine
from tfq_fine.affine import CodeFormat
from tfq_fine.granularity import Blocks, ChannelGroups, PerChannel, PerTensor, block_shape

SHAPES = st.sampled_from([(5, 6), (7, 3, 2, 4), (1, 3, 5, 8), (12, 35)])
VALUES = st.floats(-1e3, 1e3, width=32)


def weights() -> st.SearchStrategy[np.ndarray]:
    return SHAPES.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=VALUES))


@given(weights(), st.sampled_from([8, 4, 2]), st.booleans(), st.data())
def test_error_is_at_most_half_a_step(values: np.ndarray, bits: int, symmetric: bool, data: st.DataObject) -> None:
    channel = data.draw(st.sampled_from(range(values.ndim)))
    granularity = data.draw(st.sampled_from([PerTensor(), PerChannel()]))
    codes = affine.encode_weight(values, block_shape(granularity, values.shape, channel), CodeFormat(bits, symmetric))
    step = np.broadcast_to(codes.scale, codes.scale.shape)
    # 1e-3 of a step for float32 division; asymmetric ranges round their zero point, which moves the ends by half a step
    allowed = (0.5 if symmetric else 1.0) * step + 1e-3 * step
    assert (np.abs(codes.dequantize() - values) <= allowed).all()


@given(weights(), st.sampled_from([8, 4, 2]))
def test_symmetric_codes_never_use_the_most_negative_one(values: np.ndarray, bits: int) -> None:
    codes = affine.encode_weight(values, values.shape, CodeFormat(bits))
    assert codes.codes.min() >= -(2 ** (bits - 1) - 1)
    assert not codes.zero_point.any()


@given(weights(), st.sampled_from([8, 4, 2]), st.booleans())
def test_zero_stays_zero(values: np.ndarray, bits: int, symmetric: bool) -> None:
    values.reshape(-1)[0] = 0.0
    assert affine.encode_weight(values, values.shape, CodeFormat(bits, symmetric)).dequantize().reshape(-1)[0] == 0.0


@pytest.mark.parametrize("dead", [0.0, 1e-42, -1e-44], ids=["zero", "subnormal", "negative_subnormal"])
def test_a_dead_channel_gets_scale_one(dead: float) -> None:
    values = np.array([[dead, dead, dead], [1.0, -2.0, 0.5]], np.float32)
    codes = affine.encode_weight(values, (1, 3), CodeFormat(8))
    assert codes.scale[0, 0] == 1.0
    assert not codes.codes[0].any()
    np.testing.assert_allclose(codes.scale[1, 0], 2 / 127, rtol=1e-6)


@pytest.mark.parametrize("bits", [4, 2])
def test_every_code_survives_packing(bits: int) -> None:
    every = np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1), dtype=np.int8)
    for length in range(1, 20):  # every remainder of the last byte, every position within a byte
        codes = np.resize(every, length)
        np.testing.assert_array_equal(unpack(pack(codes, bits), bits, codes.shape), codes)
        assert len(pack(codes, bits)) == -(-length * bits // 8)


def test_packing_puts_the_first_code_in_the_lowest_bits() -> None:
    assert pack(np.array([1, -1, 7]), 4).tolist() == [0xF1, 0x07]
    assert pack(np.array([1, -2, -1, 0, 1]), 2).tolist() == [0b00_11_10_01, 0b01]


def test_a_finer_granularity_never_raises_the_error_bound() -> None:
    values = np.random.default_rng(1).normal(size=(6, 35)).astype(np.float32) * np.arange(1, 7)[:, None]
    steps = []
    for granularity in (PerTensor(), ChannelGroups(3), PerChannel(), Blocks(5)):
        codes = affine.encode_weight(values, block_shape(granularity, values.shape, 0, 1), CodeFormat(4))
        repeats = [size // blocks for size, blocks in zip(values.shape, codes.scale.shape, strict=True)]
        steps.append(np.repeat(np.repeat(codes.scale, repeats[0], 0), repeats[1], 1))
    for coarse, fine in itertools.pairwise(steps):
        assert (fine <= coarse).all()


def test_extremes_of_granularity_coincide() -> None:
    shape = (6, 5, 7, 10)
    assert block_shape(ChannelGroups(1), shape, 0) == block_shape(PerChannel(), shape, 0)
    assert block_shape(ChannelGroups(6), shape, 0) == block_shape(PerTensor(), shape, 0)
    assert block_shape(Blocks(35), (6, 35), 0, 1) == block_shape(PerChannel(), (6, 35), 0)


@given(st.floats(-1e4, 1e4, width=32), st.floats(-1e4, 1e4, width=32))
def test_activation_encodings_cover_their_range_and_zero(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    encoding = affine.activation_encoding(low, high, 8)
    limits = np.array([-128, 127], np.int8)
    ends = encoding.decode(limits)
    # the zero point is rounded, which shifts both ends by at most half a step
    assert ends[0] <= min(low, 0.0) + 0.51 * encoding.scale
    assert ends[1] >= max(high, 0.0) - 0.51 * encoding.scale
    assert encoding.decode(encoding.encode(np.zeros(1)))[0] == 0.0
    assert -128 <= encoding.zero_point <= 127


def test_int16_activations_are_symmetric() -> None:
    encoding = affine.activation_encoding(-3.0, 1.0, 16)
    assert encoding.zero_point == 0
    np.testing.assert_allclose(encoding.scale, 3.0 / 32767, rtol=1e-6)


def test_bias_codes_are_in_units_of_the_accumulator() -> None:
    bias = np.array([0.5, -0.25, 1e-3], np.float32)
    scales = np.array([0.01, 0.02, 0.04], np.float32)
    codes = affine.encode_bias(bias, 0.1, scales, 32)
    np.testing.assert_array_equal(codes.codes, np.rint(bias.astype(np.float64) / (0.1 * scales.astype(np.float64))))
    assert codes.codes.dtype == np.int32
    np.testing.assert_allclose(codes.dequantize(), bias, atol=0.1 * 0.04 / 2)
