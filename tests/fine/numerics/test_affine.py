"""The arithmetic core against bounds from theory, on shapes whose sides are coprime."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from support.strategies import ranges
from tfq_converters.flatbuffer.packing import pack, unpack
from tfq_converters.quantized import WeightCodes
from tfq_fine.algorithms import WeightProblem, solve
from tfq_fine.numerics import affine
from tfq_fine.numerics.affine import CodeFormat
from tfq_fine.request.granularity import (
    Blocks,
    ChannelGroups,
    Granularity,
    PerChannel,
    PerTensor,
    block_shape,
)
from tfq_fine.request.specs import WeightSpec

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


def test_pixels_of_a_symmetric_range_lie_on_no_tie() -> None:
    """Images in [-1, 1]: with 2 / 255 for a scale, every one of the 256 values is half a step from its code."""
    pixels = np.arange(256) / 127.5 - 1
    encoding = affine.activation_encoding(-1.0, 1.0, 8)
    steps = pixels / encoding.scale
    assert np.mean(np.abs(steps - np.rint(steps))) < 0.26  # a quarter where they are anywhere


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


# Blocks of every shape.


@st.composite
def blocked(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, ...]]:
    """A weight, and the shape of blocks that need not divide it."""
    values = draw(weights())
    channel, inputs = draw(st.permutations(range(values.ndim)))[:2]
    size = draw(st.integers(1, 9))
    every: list[Granularity] = [
        PerTensor(),
        PerChannel(),
        ChannelGroups(size),
        Blocks(size),
        Blocks(values.shape[inputs]),
    ]
    return values, block_shape(
        draw(st.sampled_from(every)), values.shape, channel, inputs, whole_window=draw(st.booleans())
    )


def of_each_value(per_block: np.ndarray, codes: WeightCodes) -> np.ndarray:
    """What every value of a weight has of its block."""
    places = np.indices(codes.codes.shape)
    return per_block[tuple(place // size for place, size in zip(places, codes.block, strict=True))]


def short(scale: np.ndarray) -> np.ndarray:
    """`scale` rounded to 8 significant bits, as bfloat16 has them."""
    mantissa, exponent = np.frexp(scale.astype(np.float64))
    return np.ldexp(np.rint(mantissa * 256), exponent - 8)


@given(blocked(), st.sampled_from([8, 6, 5, 4, 3, 2]))
def test_blocks_that_do_not_divide_keep_the_bound(weight: tuple[np.ndarray, tuple[int, ...]], bits: int) -> None:
    values, block = weight
    codes = affine.encode_weight(values, block, CodeFormat(bits))
    assert codes.scale.shape == tuple(-(-size // b) for size, b in zip(values.shape, block, strict=True))
    step = of_each_value(codes.scale, codes)
    np.testing.assert_array_equal(codes.dequantize(), (codes.codes * step).astype(np.float32))
    # 1e-3 of a step: the division is one of float32
    assert (np.abs(codes.dequantize().astype(np.float64) - values) <= 0.501 * step).all()


@given(blocked())
def test_short_scales_are_rounded_before_codes_are_chosen(weight: tuple[np.ndarray, tuple[int, ...]]) -> None:
    values, block = weight
    codes = affine.encode_weight(values, block, CodeFormat(4, scales="bfloat16"))
    np.testing.assert_array_equal(codes.scale, short(codes.scale))
    np.testing.assert_array_equal(codes.scale, codes.scale.astype(np.float16))
    assert (codes.scale >= np.finfo(np.float32).tiny).all()
    step = of_each_value(codes.scale, codes)
    assert (np.abs(codes.dequantize().astype(np.float64) - values) <= 0.501 * step).all()


@given(st.floats(2.0**-16, 2.0**15, width=32))
def test_short_scales_are_the_nearest(scale: float) -> None:
    found = affine.bfloat16(np.array([scale], np.float32))
    np.testing.assert_array_equal(found, short(np.array([scale], np.float32)))


@pytest.mark.parametrize("bits", [4, 2])
@pytest.mark.parametrize("short_scales", [False, True])
def test_a_block_of_zeros_has_a_positive_scale_and_zero_codes(bits: int, short_scales: bool) -> None:
    values = np.zeros((3, 7), np.float32)
    values[1, 5] = 2.0
    codes = affine.encode_weight(values, (1, 4), CodeFormat(bits, scales="bfloat16" if short_scales else "float32"))
    assert (codes.scale >= np.finfo(np.float32).tiny).all()
    assert np.count_nonzero(codes.codes) == 1


@pytest.mark.parametrize("bits", [4, 2])
@pytest.mark.parametrize("symmetric", [True, False])
def test_every_code_is_the_code_of_its_value(bits: int, symmetric: bool) -> None:
    form = CodeFormat(bits, symmetric)
    every = np.arange(form.lowest, form.highest + 1)
    assert len(every) == 2**bits - symmetric
    zero_point = 0 if symmetric else 1
    values = ((every - zero_point) * np.float32(0.37)).astype(np.float32)
    scale, zero = np.full(1, 0.37, np.float32), np.full(1, zero_point)
    codes = affine.encode(values, values.shape, scale, zero, form)
    np.testing.assert_array_equal(codes.codes, every)
    np.testing.assert_array_equal(codes.dequantize(), values)
    beyond = affine.encode(values * 3, values.shape, scale, zero, form).codes
    assert (beyond.min(), beyond.max()) == (form.lowest, form.highest)


@given(blocked())
def test_splitting_and_joining_gives_the_values_back(weight: tuple[np.ndarray, tuple[int, ...]]) -> None:
    values, block = weight
    parts = affine.split(values, block)
    assert parts.shape[1::2] == block
    np.testing.assert_array_equal(affine.join(parts, values.shape), values)


@pytest.mark.parametrize("shape", [(5, 6), (7, 3, 2, 4), (12, 35)])
def test_extremes_of_granularity_give_the_same_numbers(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    inputs, channels = len(shape) - 1, shape[0]
    window = any(size > 1 for size in shape[1:-1])
    for one, other in (
        (ChannelGroups(1), PerChannel()),
        (ChannelGroups(channels), PerTensor()),
        (ChannelGroups(channels + 4), PerTensor()),
        (Blocks(shape[inputs]), PerChannel()),
        (Blocks(shape[inputs] + 4), PerChannel()),
    ):
        blocks = [block_shape(g, shape, 0, inputs, whole_window=window) for g in (one, other)]
        first, second = (affine.encode_weight(values, block, CodeFormat(4)) for block in blocks)
        np.testing.assert_array_equal(first.codes, second.codes)
        np.testing.assert_array_equal(first.scale, second.scale)


@given(weights(), st.integers(1, 6), st.sampled_from([4, 2]))
def test_a_finer_granularity_never_raises_the_bound_of_a_value(values: np.ndarray, size: int, bits: int) -> None:
    """Sizes that do not divide included: only what is nested is compared."""
    chains = [
        (PerTensor(), ChannelGroups(2 * size), ChannelGroups(size), PerChannel()),
        (PerChannel(), Blocks(2 * size), Blocks(size), Blocks(1)),
    ]
    for chain in chains:
        steps = []
        for granularity in chain:
            block = block_shape(granularity, values.shape, 0, values.ndim - 1, whole_window=True)
            low, high = affine.block_extent(values, block)
            codes = affine.encode_weight(values, block, CodeFormat(bits))
            dead = of_each_value(np.maximum(-low, high), codes) < affine.TINY * 7  # their scale says nothing
            steps.append(np.where(dead, 0, of_each_value(codes.scale, codes)))
        for coarse, fine in itertools.pairwise(steps):
            assert (fine <= coarse).all()


# Clipping.


def clipped(values: np.ndarray, block: tuple[int, ...], form: CodeFormat, **options: float) -> WeightCodes:
    return solve(WeightSpec(algorithm="mse_clip", options=tuple(options.items())), WeightProblem(values, block, form))


@given(blocked(), st.sampled_from([8, 4, 2]), st.booleans(), st.booleans())
def test_clipping_is_never_worse_than_rounding(
    weight: tuple[np.ndarray, tuple[int, ...]], bits: int, symmetric: bool, short_scales: bool
) -> None:
    values, block = weight
    form = CodeFormat(bits, symmetric, "bfloat16" if short_scales and symmetric else "float32")
    plain = affine.squared_error(values, affine.encode_weight(values, block, form))
    assert (affine.squared_error(values, clipped(values, block, form)) <= plain).all()


def test_clipping_is_better_on_an_outlier_and_touches_no_other_block() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, size=(2, 32)).astype(np.float32)
    values[0, 5] = 2.5
    form = CodeFormat(4)
    plain = affine.squared_error(values, affine.encode_weight(values, (1, 32), form))
    found = affine.squared_error(values, clipped(values, (1, 32), form))
    assert found[0, 0] < 0.8 * plain[0, 0]
    alone = affine.squared_error(values[1:], clipped(values[1:], (1, 32), form))
    assert found[1, 0] == alone[0, 0]


@pytest.mark.parametrize("bits", [4, 2])
@pytest.mark.parametrize("seed", range(5))
def test_clipping_finds_the_best_of_its_candidates(bits: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_t(2, size=7).astype(np.float32)
    highest = 2 ** (bits - 1) - 1
    errors = []
    for share in np.linspace(1.0, 0.3, 36):
        scale = np.float32(share * np.abs(values).max() / highest)
        codes = np.clip(np.rint(values / scale), -highest, highest)
        errors.append(np.square(codes * np.float64(scale) - values).sum())
    found = affine.squared_error(values, clipped(values, (7,), CodeFormat(bits)))
    np.testing.assert_allclose(found, min(errors), rtol=1e-5)  # sums in float32


@given(ranges())
def test_activation_encodings_are_their_own(extent: tuple[float, float]) -> None:
    """The range whose values the codes are gives the same encoding again: as trained ranges, it passes through."""
    encoding = affine.activation_encoding(*extent, 8)
    low, high = (encoding.scale * (code - encoding.zero_point) for code in (-128, 127))
    assert affine.activation_encoding(low, high, 8) == encoding
