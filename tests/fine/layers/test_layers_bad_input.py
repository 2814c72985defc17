"""Each mistake with wrappers is one clear error."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import tfq_fine as tfq
from support.wrapped_models import small_cnn

WEIGHTS, ACTIVATIONS = tfq.WeightSpec(8), tfq.ActivationSpec(8)


def wrapped(layer: Any, weights: Any = WEIGHTS, activations: Any = ACTIVATIONS, **options: Any) -> Any:
    return tfq.layers.FineQuantize(layer, weights, activations, **options)


def frozen() -> Any:
    layer = layers.Dense(3, name="frozen")
    layer.trainable = False
    return layer


WRONG_LAYERS = {
    "without weights": (lambda: layers.ReLU(name="relu"), r"'relu' \(ReLU\) has no weights to quantize"),
    "wrapped already": (lambda: wrapped(layers.Dense(3, name="twice")), "'twice' is wrapped already"),
    "frozen": (frozen, "'frozen' is frozen"),
    "mixed precision": (lambda: layers.Dense(3, dtype="mixed_float16", name="half"), "'half' computes in float16"),
    "no layer": (lambda: 3, "received an object of class int"),
}


@pytest.mark.parametrize("case", WRONG_LAYERS)
def test_a_layer_that_cannot_be_wrapped(case: str):
    make, message = WRONG_LAYERS[case]
    with pytest.raises(tfq.TfqError, match=message):
        wrapped(make())


def test_a_wrapper_without_a_spec_of_weights():
    with pytest.raises(tfq.TfqError, match=r"needs weights=WeightSpec"):
        wrapped(layers.Dense(3), weights=None)


WRONG_OPTIONS = {
    "specs that are none": ({"weights": 4}, "'wrong': OpSpec: weights must be a WeightSpec in mode 'integer', found 4"),
    "activations that are none": ({"activations": 8}, "'wrong': OpSpec: activations must be an ActivationSpec"),
    "mode": ({"mode": "static"}, "'wrong': OpSpec: mode must be one of"),
    "algorithm": ({"weights": tfq.WeightSpec(algorithm="finest")}, "'wrong': unknown algorithm 'finest'; known: auto"),
    "momentum": ({"momentum": 1.5}, "'wrong': momentum=1.5: expected a number from 0 to 1"),
    "steps": ({"freeze_after": -3}, "'wrong': freeze_after=-3"),
    "prefer": ({"prefer": "fast"}, "'wrong': prefer='fast': expected one of speed, size"),
}


@pytest.mark.parametrize("case", WRONG_OPTIONS)
def test_options_that_mean_nothing(case: str):
    options, message = WRONG_OPTIONS[case]
    with pytest.raises(tfq.TfqError, match=message):
        wrapped(layers.Dense(3, name="wrong"), **options)


def test_a_recipe_that_wraps_nothing():
    with pytest.raises(tfq.TfqError, match="recipe 'float16' quantizes no kernel of model 'cnn'"):
        tfq.annotate(small_cnn(), "float16")


def test_freezing_a_model_without_wrappers():
    with pytest.raises(tfq.TfqError, match="'cnn' holds no FineQuantize layers"):
        tfq.layers.freeze_ranges(small_cnn())


def test_simulating_what_is_not_of_the_model():
    other = keras.Sequential([keras.Input((7,)), layers.Dense(3)], name="other")
    result = tfq.quantize(small_cnn(), "weight_only_int8")
    with pytest.raises(
        tfq.TfqError, match=r"another model: its input .* is \[-1, 12, 10, 3\], that of 'other' \[None, 7\]"
    ):
        tfq.simulate(other, result)
    with pytest.raises(tfq.TfqError, match="received an object of class bytes"):
        tfq.simulate(other, result.content)


def test_learned_scales_of_asymmetric_weights():
    with pytest.raises(tfq.TfqError, match="learned scales are symmetric"):
        wrapped(layers.Dense(3), tfq.WeightSpec(4, symmetric=False), None, learned=True)


WRONG_SPECS = {
    "blocks on depthwise": (
        lambda: layers.DepthwiseConv2D(3, name="dw"),
        (12, 10, 3),
        tfq.WeightSpec(8, tfq.Blocks(32)),
        "'dw', kernel: DEPTHWISE_CONV_2D has no inputs to group",
    ),
    "too many parts": (
        lambda: layers.Dense(3, name="wide"),
        (4096,),
        tfq.WeightSpec(8, tfq.Blocks(32)),
        "'wide', kernel: blocks of 32 would split 4096 inputs into 128 operators",
    ),
    "asymmetric integers": (
        lambda: layers.Dense(3, name="dense"),
        (7,),
        tfq.WeightSpec(8, symmetric=False),
        "'dense', kernel: asymmetric weights are computed in mode weight_only alone",
    ),
    "an equation without a matrix": (
        lambda: layers.EinsumDense("abc,bcd->abd", (6, 5), name="each"),
        (6, 7),
        WEIGHTS,
        "'each': axis 'b' of 'abc,bcd->abd'",
    ),
}


@pytest.mark.parametrize("case", WRONG_SPECS)
def test_a_spec_that_the_layer_cannot_take(case: str):
    make, shape, spec, message = WRONG_SPECS[case]
    with pytest.raises(tfq.TfqError, match=message):
        wrapped(make(), spec)(keras.Input(shape))


def test_annotate_lists_all_problems_of_all_layers():
    spec = tfq.OpSpec("integer", tfq.WeightSpec(8, tfq.Blocks(2)), ACTIVATIONS)
    model = small_cnn()
    model.get_layer("head").trainable = False
    with pytest.raises(tfq.TfqError, match=r"(?s)depthwise.*head") as caught:
        tfq.annotate(model, tfq.Recipe("blocks", spec))
    assert "2 problems" in str(caught.value)


def test_annotating_twice():
    model = tfq.annotate(small_cnn(), "weight_only_int8")
    with pytest.raises(tfq.TfqError, match=r"has wrapped layers already: .*'stem'"):
        tfq.annotate(model, "weight_only_int8")


def test_wrappers_that_were_never_calibrated_are_named():
    model = tfq.annotate(small_cnn(), "full_int8")
    with pytest.raises(tfq.TfqError, match=r"(?s)'stem' is wrapped for integer kernels and has no range yet.*'head'"):
        tfq.quantize(model, data=np.zeros((1, 12, 10, 3), np.float32))


def test_calibrating_without_wrappers_and_without_samples():
    with pytest.raises(tfq.TfqError, match="holds no FineQuantize layers"):
        tfq.layers.freeze_ranges(small_cnn())
    with pytest.raises(tfq.TfqError, match="no samples"):
        tfq.calibrate(tfq.annotate(small_cnn()), np.zeros((0, 12, 10, 3), np.float32))


def test_calibrating_on_data_that_is_not_finite():
    with pytest.raises(tfq.TfqError, match="nan is not a finite number"):
        tfq.calibrate(tfq.annotate(small_cnn()), np.full((1, 12, 10, 3), np.nan, np.float32))


def test_another_backend(monkeypatch: pytest.MonkeyPatch):
    layer, model = layers.Dense(3), small_cnn()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(tfq.TfqError, match="backend tensorflow; found 'jax'"):
        wrapped(layer)
    for function in (tfq.annotate, tfq.quantize):
        with pytest.raises(tfq.TfqError, match="KERAS_BACKEND=tensorflow"):
            function(model)


class Needs(keras.layers.Layer):
    """Its constructor takes what its configuration does not tell."""

    def __init__(self, secret: object):
        super().__init__(name="needs")
        self.dense = layers.Dense(3)

    def call(self, x: Any) -> Any:
        return self.dense(x)

    def get_config(self) -> dict[str, Any]:
        return {}


def test_a_layer_that_cannot_be_copied():
    inputs = keras.Input((7,))
    model = keras.Model(inputs, Needs(object())(inputs))
    with pytest.raises(tfq.TfqError, match=r"'needs' \(Needs\) cannot be copied"):
        tfq.annotate(model)


def test_a_row_that_names_no_variable():
    row = tfq.layers.LayerRow((tfq.layers.Kernel("matrix", "FULLY_CONNECTED", ((1,), (0,))),))
    with pytest.raises(tfq.TfqError, match="no variable 'matrix'"):
        wrapped(layers.Dense(3), row=row)(keras.Input((7,)))


def test_annotating_a_path():
    with pytest.raises(tfq.TfqError, match=r"takes a Keras model, found a path: load 'model\.keras' with Keras first"):
        tfq.annotate("model.keras", "full_int8")


@pytest.mark.parametrize("layout", [((1,), (2,)), ((1,), ()), ((0, 1), (0,))], ids=str)
def test_a_row_with_other_axes_than_its_kernel(layout: Any):
    row = tfq.layers.LayerRow((tfq.layers.Kernel("kernel", "FULLY_CONNECTED", layout),))
    with pytest.raises(tfq.TfqError, match=r"'wrong' \(Dense\): layout .* does not name each of the 2 axes of kernel"):
        wrapped(layers.Dense(3, name="wrong"), row=row)(keras.Input((7,)))
