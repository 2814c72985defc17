"""Batch norm has kept what its inputs were in training: unlike data is told of, and the right data is not."""

from typing import Any

import keras
import numpy as np
import pytest
import tf_keras

import tfq_fine as tfq
from tfq_converters.reading import read_model
from tfq_fine.calibration.trained_moments import first_moments, unlike_training

pytestmark = pytest.mark.usefixtures("conversions_once")
RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(3, 3, 2, 6)).astype(np.float32)
FRAMEWORKS = pytest.mark.parametrize("framework", [keras, tf_keras], ids=["keras", "tf_keras"])


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, size=(count, 8, 7, 2)).astype(np.float32)


def trained(framework: Any, nested: bool = False, silent: int = 0) -> Any:
    """A model whose batch norm has the moments of `images`; `silent` channels are 0 and were so in training."""
    layers = framework.layers
    inputs = framework.Input((8, 7, 2))
    conv = layers.Conv2D(6, 3, name="conv", use_bias=False)
    norm = layers.BatchNormalization(name="norm")
    body = framework.Model(inputs, layers.ReLU()(norm(conv(inputs))))
    kernel = KERNEL.copy()
    kernel[..., :silent] = 0
    conv.set_weights([kernel])
    windows = np.lib.stride_tricks.sliding_window_view(images(200, 1), (3, 3), axis=(1, 2))  # [n, y, x, c, 3, 3]
    values = np.einsum("nyxckl,klcf->nyxf", windows, kernel, dtype=np.float64)
    norm.set_weights([np.ones(6), np.zeros(6), values.mean(axis=(0, 1, 2)), values.var(axis=(0, 1, 2))])
    if not nested:
        return framework.Model(inputs, layers.Dense(3)(layers.Flatten()(body.output)))
    outer = framework.Input((8, 7, 2))
    return framework.Model(outer, layers.Dense(3)(layers.Flatten()(body(layers.Activation("linear")(outer)))))


def samples(data: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    return [(row[None],) for row in data]


@FRAMEWORKS
@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_the_figures_are_those_of_the_inputs(framework: Any, nested: bool) -> None:
    """Multiplied data is as many deviations away, and spreads so much; the moments are exact but for the sample."""
    source = read_model(trained(framework, nested))
    for factor in (1.0, 20.0, 0.01):
        found = first_moments(source, samples(images(16) * np.float32(factor)))
        assert found is not None and found.layer == "norm"
        assert found.spread == pytest.approx(factor, rel=0.1)  # 16 samples of 30 places: a few percent
        assert found.distance == pytest.approx(factor, rel=0.1, abs=0.1)  # the means in training were nearly 0
    assert list(unlike_training(source, samples(images(16)))) == []


@FRAMEWORKS
def test_unlike_data_is_told_of_with_the_figure(framework: Any) -> None:
    model = trained(framework)
    far = tfq.quantize(model, "dynamic_int8", (images(16) + 1) * 127.5, transforms=None).report.warnings
    (warning,) = (said for said in far if "norm has kept the mean" in said)
    figure = float(warning.partition(" deviations away")[0].rpartition(" ")[2])
    assert 100 < figure < 2000  # 128 times the values, and their new mean
    near = tfq.quantize(model, "full_int8", images(16) / 127.5, transforms=None).report.warnings
    (warning,) = (said for said in near if "norm has kept the mean" in said)
    assert "spread by 0.0078 of their deviation" in warning or "spread by 0.0079 of their deviation" in warning
    assert not any("has kept" in said for said in tfq.quantize(model, "full_int8", images(16)).report.warnings)


def test_what_says_nothing() -> None:
    """Channels that were silent, moments that were never trained, models without such a layer or without samples."""
    source = read_model(trained(keras, silent=2))
    assert list(unlike_training(source, samples(images(16)))) == []
    assert list(unlike_training(source, [])) == []
    fresh = keras.Sequential([keras.Input((8, 7, 2)), keras.layers.Conv2D(6, 3), keras.layers.BatchNormalization()])
    plain = keras.Sequential([keras.Input((8, 7, 2)), keras.layers.Conv2D(6, 3)])
    for model in (fresh, plain):
        assert first_moments(read_model(model), samples(images(16) * 1000)) is None


@FRAMEWORKS
def test_a_normalization_of_the_inputs(framework: Any) -> None:
    norm = framework.layers.Normalization(name="inputs_norm")
    norm.adapt(images(200, 1) * 30 + 100)
    model = framework.Sequential([framework.Input((8, 7, 2)), norm, framework.layers.Dense(3)])
    source = read_model(model)
    assert list(unlike_training(source, samples(images(16) * 30 + 100))) == []
    found = first_moments(source, samples(images(16)))
    deviation = 30 / np.sqrt(3)  # of a uniform distribution over 60
    assert found is not None and found.distance == pytest.approx(100 / deviation, rel=0.05)
    assert len(list(unlike_training(source, samples(images(16))))) == 1
