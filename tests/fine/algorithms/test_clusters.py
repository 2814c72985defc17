"""Algorithm `clusters`: as many codes as the weight has clusters, whatever was multiplied into its channels."""

from dataclasses import replace
from typing import Literal

import keras
import numpy as np
import pytest
from keras import layers

import tfq_fine as tfq
from support.graphs import codes_in_file
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

CENTRES = np.array([-0.31, -0.117, -0.05, 0.0, 0.023, 0.08, 0.211], np.float32)
SHAPE, CHANNEL, INPUTS = (7, 3, 2, 15), 0, 3  # of a convolution, OHWI


def clustered(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).choice(CENTRES, shape)


def encoded(weight: np.ndarray, granularity: Granularity, form: CodeFormat) -> WeightCodes:
    block = block_shape(granularity, weight.shape, CHANNEL, INPUTS)
    return solve(WeightSpec(algorithm="clusters"), WeightProblem(weight, block, form))


def nearest(weight: np.ndarray, granularity: Granularity, form: CodeFormat) -> WeightCodes:
    return affine.encode_weight(weight, block_shape(granularity, weight.shape, CHANNEL, INPUTS), form)


FORMATS = {
    "int8": CodeFormat(8),
    "int4": CodeFormat(4),
    "asymmetric": CodeFormat(8, symmetric=False),
    "bfloat16": CodeFormat(4, scales="bfloat16"),
    "float16": CodeFormat(8, scales="float16"),
}
GRANULARITIES = {"tensor": PerTensor(), "groups": ChannelGroups(3), "channel": PerChannel(), "blocks": Blocks(4)}


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("form", FORMATS)
def test_as_many_codes_as_clusters(form: str, granularity: str):
    weight = clustered()
    codes = encoded(weight, GRANULARITIES[granularity], FORMATS[form])
    assert len(np.unique(codes.codes)) <= len(CENTRES)
    for centre in CENTRES:
        assert len(np.unique(codes.codes[weight == centre])) == 1
    assert (codes.dequantize()[weight == 0] == 0).all()
    # half a step; float16 scales are off by 2^-12 and bfloat16 ones by 2^-9 of a value, up to 127 and 7 steps
    step = np.abs(CENTRES).max() / FORMATS[form].highest
    assert np.abs(codes.dequantize() - weight).max() <= 0.54 * step


@pytest.mark.parametrize("form", FORMATS)
def test_factors_of_channels_are_found_again(form: str):
    """A folded batch norm; one channel is nearly off, one holds a single cluster, one is 0."""
    idle = 1e-6 if FORMATS[form].scales == "float32" else 0.05  # half-precision scales go no lower
    factors = np.array([1.3, 0.7, idle, 2.9, 0.011, 1.0, 0.4], np.float32)
    weight = clustered() * factors[:, None, None, None]
    weight[3][weight[3] == CENTRES[0] * factors[3]] = 0  # so that its extent is that of another cluster
    weight[4], weight[5] = CENTRES[1] * factors[4], 0
    codes = encoded(weight, PerChannel(), FORMATS[form])
    assert len(np.unique(codes.codes)) <= len(CENTRES)
    assert len(np.unique(nearest(weight, PerChannel(), CodeFormat(8)).codes)) > len(CENTRES)
    step = factors * np.abs(CENTRES).max() / FORMATS[form].highest
    assert (np.abs(codes.dequantize() - weight).max(axis=(1, 2, 3)) <= 0.54 * step).all()


@pytest.mark.parametrize("scales", ["bfloat16", "float16"])
def test_an_idle_channel_below_the_smallest_scale(scales: Literal["bfloat16", "float16"]):
    """Its codes are those of its scale, not of its clusters."""
    form = CodeFormat(4, scales=scales)
    weight = clustered() * np.array([1.3, 0.7, 1e-7, 2.9, 0.3, 1.0, 0.4], np.float32)[:, None, None, None]
    error = np.abs(encoded(weight, PerChannel(), form).dequantize() - weight)[2].max()
    assert error <= np.abs(nearest(weight, PerChannel(), form).dequantize() - weight)[2].max()


def test_blocks_have_the_factors_of_their_channels():
    """Blocks of 8 and 7 inputs, few of which hold all seven clusters."""
    weight = clustered() * np.array([1.3, 0.7, 0.1, 2.9, 0.011, 1.0, 0.4], np.float32)[:, None, None, None]
    codes = encoded(weight, Blocks(8), CodeFormat(8))
    assert len(np.unique(codes.codes)) <= len(CENTRES) < len(np.unique(nearest(weight, Blocks(8), CodeFormat(8)).codes))


def test_a_negative_factor_makes_negative_codes():
    factors = np.array([1.3, -0.7, 1.1, -2.9, 0.8, 1.0, 0.4], np.float32)[:, None, None, None]
    weight = clustered() * factors
    codes = encoded(weight, PerChannel(), CodeFormat(8))
    assert len(np.unique(codes.codes * np.sign(factors))) <= len(CENTRES)
    assert (codes.scale > 0).all()


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("shape", [SHAPE, (5, 1, 1, 4)], ids=["many values", "few values"])
def test_without_clusters_it_rounds_to_nearest(shape: tuple[int, ...], granularity: str):
    weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    codes = encoded(weight, GRANULARITIES[granularity], CodeFormat(8))
    expected = nearest(weight, GRANULARITIES[granularity], CodeFormat(8))
    np.testing.assert_array_equal(codes.codes, expected.codes)
    np.testing.assert_array_equal(codes.scale, expected.scale)


def test_more_clusters_than_codes_keep_the_scales_of_their_channels():
    weight = clustered()
    codes = encoded(weight, PerChannel(), CodeFormat(2))
    np.testing.assert_array_equal(codes.codes, nearest(weight, PerChannel(), CodeFormat(2)).codes)


def clustered_net() -> keras.Model:
    """Convolution, batch norm, depthwise, batch norm after ReLU, dense; clustered kernels."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((9, 8, 5))
    x = layers.Conv2D(7, 3, use_bias=False, name="conv")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.Conv2D(6, (2, 3), activation="relu", name="second")(x)
    x = layers.BatchNormalization(name="behind")(x)
    model = keras.Model(inputs, layers.Dense(3, name="head")(layers.Flatten()(x)))
    rng = np.random.default_rng(1)
    for seed, name in enumerate(("conv", "second", "head")):
        kernel = model.get_layer(name).kernel
        kernel.assign(clustered(seed, kernel.shape))
    for name in ("norm", "behind"):
        for variable in model.get_layer(name).weights:
            variable.assign(rng.uniform(0.2, 3, variable.shape))
    return model


@pytest.mark.parametrize("recipe", ["full_int8", "dynamic_int8", "weight_only_int4"])
def test_the_file_has_as_many_codes(recipe: str):
    """Read back from the file; nothing that scales inputs is applied, though both would have something to do."""
    model = clustered_net()
    data = np.random.default_rng(0).normal(size=(20, 9, 8, 5)).astype(np.float32)
    result = tfq.quantize(model, tfq.RECIPES[recipe].with_algorithm("clusters"), data=data, prefer="size")
    counts = {layer: len(np.unique(codes)) for layer, codes in codes_in_file(result).items()}
    assert set(counts) == {"conv", "second", "head"}
    assert all(count <= len(CENTRES) for count in counts.values()), counts
    assert {row.name for row in result.report.transforms if "clusters" in row.text} == {
        "fold_batch_norm",
        "cross_layer",
        "smooth_quant",
    }


def test_a_recipe_with_one_algorithm_for_all():
    rule = tfq.Rule(
        tfq.OpSpec("dynamic", tfq.WeightSpec(4, algorithm="mse_clip", options={"smallest": 0.5})), layer="x"
    )
    recipe = replace(tfq.RECIPES["full_int8"], rules=(rule, tfq.Rule(None, layer="y"))).with_algorithm("clusters")
    specs = [recipe.default, *(rule.spec for rule in recipe.rules)]
    assert [spec and spec.weights and (spec.weights.algorithm, spec.weights.options) for spec in specs] == [
        ("clusters", ()),
        ("clusters", ()),
        None,
    ]
