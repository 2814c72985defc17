"""The ranges of wrappers are those that `quantize` chooses for the same tensors of the float model."""

from functools import cache
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import tfq_fine as tfq
from support.wrapped_models import small_cnn
from tfq_converters.operators.weights import data_of, weight_axes
from tfq_fine.layers.wrapped import wrappers
from tfq_fine.numerics import affine

pytestmark = pytest.mark.usefixtures("conversions_once")

OBSERVERS = ("min_max", "moving_average", "percentile:percentile=97", "mean_std", "mse", "entropy", "auto")


def dense() -> Any:
    """Two dense layers, the first with a fused activation."""
    inputs = keras.Input((23,))
    hidden = layers.Dense(17, activation="relu", name="first")(inputs)
    model = keras.Model(inputs, layers.Dense(5, name="second")(hidden))
    rng = np.random.default_rng(5)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    return model


def tailed(*shape: int) -> np.ndarray:
    """Values with long tails, which the observers cut each in its own way, and one corrupted sample."""
    found = np.random.default_rng(shape).standard_t(2.0, size=shape)
    found[7] *= 30
    return found.astype(np.float32)


MODELS = {"cnn": (small_cnn, (40, 12, 10, 3)), "dense": (dense, (40, 23))}


def read_by_layer(result: Any) -> dict[str, float]:
    """The scale of what the operator with the kernel of each layer reads, by layer."""
    graph, ops = result.quantized.graph, result.quantized.ops
    scales = {}
    for (s, o), op in graph.ops():
        if weight_axes(op, graph.subgraphs[s]):
            slot = op.inputs.index(data_of(op))
            scales[op.layer] = ops[s, o].inputs[slot].scale
    return scales


@cache
def folded(name: str) -> tuple[Any, np.ndarray]:
    """A model without batch norm, and its data."""
    make, shape = MODELS[name]
    return tfq.fold_batch_norm(make()).model, tailed(*shape)


@cache
def extents(name: str) -> dict[str, float]:
    """How far the input of every wrapper reaches, by layer."""
    model, data = folded(name)
    whole = tfq.annotate(model, tfq.RECIPES["full_int8"].with_observer("min_max"))
    tfq.calibrate(whole, data)
    return {w.name: np.subtract(*w.ranges[0].limits()[::-1]) for w in wrappers(whole)}


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("name", MODELS)
def test_wrappers_hold_the_ranges_that_quantize_chooses(name: str, observer: str):
    model, data = folded(name)
    recipe = tfq.RECIPES["full_int8"].with_observer(observer)
    wrapped = tfq.annotate(model, recipe)
    tfq.calibrate(wrapped, data)
    expected = read_by_layer(tfq.quantize(model, recipe, data=data, transforms=None, prefer="size"))
    ranges = {w.name: w.ranges[0].limits() for w in wrappers(wrapped)}
    found = {layer: affine.activation_encoding(low, high, 8).scale for layer, (low, high) in ranges.items()}
    assert len(found) == len(expected) >= 2
    for layer, scale in found.items():
        np.testing.assert_allclose(scale, expected[layer], rtol=1e-6, err_msg=layer)  # limits are kept in float32
    whole = extents(name)
    cut = [w.name for w in wrappers(wrapped) if np.subtract(*w.ranges[0].limits()[::-1]) < 0.9 * whole[w.name]]
    if observer != "auto":  # which may find that whole ranges are the best
        assert bool(cut) == (observer != "min_max")


def limits_of(model: Any) -> dict[str, tuple[float, float]]:
    return {w.name: w.ranges[0].limits() for w in wrappers(model)}


def fine(layer: Any, observer: str, **options: float) -> Any:
    spec = tfq.ActivationSpec(8, observer, tuple(options.items()))
    return tfq.layers.FineQuantize(layer, tfq.WeightSpec(8), spec)


def test_the_observer_of_what_computes_a_tensor_comes_first():
    x = inputs = keras.Input((23,))
    x = layers.Dense(19, name="plain")(x)
    x = fine(layers.Dense(17, name="narrow"), "percentile", percentile=90)(x)
    model = keras.Model(inputs, fine(layers.Dense(5, name="wide"), "min_max")(x))
    data = np.random.default_rng(5).normal(size=(40, 23)).astype(np.float32)
    tfq.calibrate(model, data)
    found = limits_of(model)
    before = np.asarray(model.get_layer("plain")(data))  # [40, 19], fewer than are sampled: all are counted
    expected = np.percentile(before, (10, 90))
    np.testing.assert_allclose(found["narrow"], expected, rtol=0.05)  # bins of 8 bits, 760 values
    behind = np.asarray(model.get_layer("narrow").layer(before))
    assert found["wide"][1] < 0.7 * behind.max()  # cut by the layer that computes it, as in `quantize`


def test_a_range_in_front_of_a_pooling_holds_what_is_pooled():
    """The kernel of the pooling gives both one scale."""
    x = inputs = keras.Input((12, 10, 3))
    x = layers.Conv2D(7, 3, name="first")(x)
    x = layers.AveragePooling2D(2, name="pooled")(x)
    model = keras.Model(inputs, layers.Conv2D(5, 3, name="second")(x))
    data = tailed(8, 12, 10, 3)
    wrapped = tfq.annotate(model, tfq.RECIPES["full_int8"].with_observer("min_max"))
    tfq.calibrate(wrapped, data)
    values = np.asarray(model.get_layer("first")(data))
    np.testing.assert_allclose(limits_of(wrapped)["second"], (values.min(), values.max()), rtol=1e-5)  # float32 sums


class Gated(layers.Layer):
    """A kernel over its first input, times its second, which no kernel reads."""

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(7, 5), initializer="glorot_normal", name="kernel")

    def call(self, x: Any, gate: Any) -> Any:
        return keras.ops.matmul(x, self.kernel) * gate


def test_an_input_that_no_kernel_reads_is_observed_in_keras():
    row = tfq.layers.LayerRow((tfq.layers.Kernel("kernel", "FULLY_CONNECTED", ((1,), (0,)), 0),))
    x, gate = keras.Input((7,), name="x"), keras.Input((5,), name="gate")
    wrapped = tfq.layers.FineQuantize(Gated(), tfq.WeightSpec(8), tfq.ActivationSpec(8), row=row)
    model = keras.Model([x, gate], wrapped(x, gate))
    data = {"x": tailed(40, 7), "gate": tailed(40, 5)}
    tfq.calibrate(model, data)
    np.testing.assert_array_equal(wrapped.ranges[1].limits(), (data["gate"].min(), data["gate"].max()))
    assert wrapped.ranges[0].limits()[1] < 0.5 * data["x"].max()  # by auto
    with pytest.raises(tfq.TfqError, match=r"'gated\w*' have inputs .* give data that can be read twice"):
        tfq.calibrate(model, iter([data]))


def test_data_that_can_be_read_only_once_and_bad_samples():
    wrapped, data = tfq.annotate(dense(), "full_int8", learned=True), tailed(40, 23)
    assert tfq.calibrate(wrapped, (row[None] for row in data)).samples == 40
    known = limits_of(wrapped)
    bad = np.insert(data, 11, np.nan, axis=0)
    assert tfq.calibrate(wrapped, (row[None] for row in bad), on_invalid="skip").skipped == 1
    assert limits_of(wrapped) == known
    low, high = known["first"]
    first = next(w for w in wrappers(wrapped) if w.name == "first")
    step = float(first.ranges[0].step.numpy())  # learned ranges start from what was chosen
    np.testing.assert_allclose(step, (high - low) / 255, rtol=1e-6)
