"""Wrapping whole models: nested, shared, subclassed; training, saving, folding batch norm."""

import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import tfq_fine as tfq
from support.wrapped_models import Block, all_outputs, calibrated, file_outputs, images, small_cnn, sqnr_db, weights_of
from tfq_fine.layers.export import unwrapped
from tfq_fine.layers.wrapped import wrappers

pytestmark = pytest.mark.usefixtures("conversions_once")
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(16, 7)).astype(np.float32)


class Subclassed(keras.Model):
    def __init__(self, units: int = 5):
        super().__init__()
        self.first = layers.Dense(units, activation="relu")
        self.more = {"last": layers.Dense(3)}

    def call(self, x: Any) -> Any:
        return self.more["last"](self.first(x))


class OwnDense(layers.Layer):
    """A layer type that has no row."""

    def build(self, shape: Any) -> None:
        self.matrix = self.add_weight(shape=(shape[-1], 5), initializer="glorot_uniform", name="matrix")

    def call(self, x: Any) -> Any:
        return keras.ops.matmul(x, self.matrix)


def sequential() -> Any:
    return keras.Sequential([keras.Input((7,)), layers.Dense(6, activation="relu"), layers.Dense(3)])


def nested() -> Any:
    """An inner model and a layer that are both called twice."""
    inner = keras.Sequential([keras.Input((7,)), layers.Dense(6, activation="relu"), layers.Dense(7)], name="inner")
    inputs = keras.Input((7,))
    shared = layers.Dense(7, name="shared")
    return keras.Model(inputs, shared(shared(inner(inner(inputs)))))


def with_block() -> Any:
    inputs = keras.Input((7,))
    return keras.Model(inputs, layers.Dense(3)(Block()(inputs)))


def subclassed() -> Any:
    model = Subclassed()
    model(ROWS)
    return model


def own() -> Any:
    inputs = keras.Input((7,))
    return keras.Model(inputs, OwnDense()(inputs))


MODELS = {"sequential": (sequential, 2), "nested": (nested, 3), "block": (with_block, 3), "subclassed": (subclassed, 2)}


@pytest.mark.parametrize("name", MODELS)
def test_any_model_is_wrapped_on_a_copy(name: str):
    make, count = MODELS[name]
    model = make()
    before, reference = weights_of(model), np.asarray(model(ROWS))
    wrapped = calibrated(model, "full_int8", ROWS)
    assert len(wrappers(wrapped)) == count
    assert not wrappers(model)
    expected = np.asarray(wrapped(ROWS))
    assert 20 < sqnr_db(expected, reference) < 60  # 8 bits, several layers deep
    result = tfq.quantize(wrapped, data=ROWS)
    assert sqnr_db(file_outputs(result, ROWS), expected) > 26  # single steps of 8 bits, up to six layers deep
    assert all(np.array_equal(a, b) for a, b in zip(weights_of(model), before, strict=True))


def test_a_layer_type_of_the_user_takes_a_row():
    model = own()
    row = tfq.layers.LayerRow((tfq.layers.Kernel("matrix", "FULLY_CONNECTED", ((1,), (0,))),))
    wrapped = calibrated(model, "weight_only_int4", ROWS, rows={"OwnDense": row})
    assert len(wrappers(wrapped)) == 1
    np.testing.assert_allclose(file_outputs(tfq.quantize(wrapped), ROWS), np.asarray(wrapped(ROWS)), atol=1e-6)


def test_rules_choose_what_is_wrapped():
    recipe = tfq.RECIPES["full_int8"].with_rules(
        tfq.Rule(None, layer="stem"), tfq.Rule(tfq.OpSpec("weight_only", tfq.WeightSpec(4)), layer="he*")
    )
    found = {wrapper.name: wrapper.spec for wrapper in wrappers(tfq.annotate(small_cnn(), recipe))}
    assert set(found) == {"depthwise", "project", "head"}
    assert found["head"].mode == "weight_only" and found["depthwise"].mode == "integer"
    with pytest.raises(tfq.TfqError, match="matches no layer"):
        tfq.annotate(small_cnn(), recipe.with_rules(tfq.Rule(None, layer="steem")))


@pytest.mark.parametrize(("learned", "jit"), [(False, True), (True, False)], ids=["averaged, jit", "learned, plain"])
def test_training_moves_the_scales_and_the_file_follows(learned: bool, jit: bool, tmp_path: Path):
    inputs = keras.Input((12, 10, 3))
    x = layers.Conv2D(6, 3, strides=2, activation="relu")(inputs)
    model = keras.Model(inputs, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))
    data, labels = images(32), np.arange(32) % 5
    wrapped = calibrated(model, "full_w4a8", data, learned=learned)
    before = {weight.path: np.asarray(weight).copy() for weight in wrapped.weights}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    wrapped.compile(keras.optimizers.Adam(3e-3), loss, jit_compile=jit)
    history = wrapped.fit(data, labels, epochs=10, batch_size=16, verbose=0).history["loss"]
    assert history[-1] < history[0]
    moved = {w.path.rsplit("/")[-1] for w in wrapped.weights if not np.array_equal(before[w.path], np.asarray(w))}
    assert {"kernel", "bias"} <= moved
    assert {"scale_0", "input_0_step"} <= moved if learned else {"input_0_low", "input_0_high"} <= moved
    result, expected = tfq.quantize(wrapped, data=data), np.asarray(wrapped(data))
    assert sqnr_db(file_outputs(result, data), expected) > 28  # single steps of 8 bits of small logits
    path = tmp_path / "wrapped.keras"
    wrapped.save(path)
    loaded = keras.saving.load_model(path)
    np.testing.assert_array_equal(np.asarray(loaded(data)), expected)
    assert tfq.quantize(loaded, data=data).content == result.content


def test_freezing_keeps_the_ranges():
    data = images()
    wrapped = calibrated(small_cnn(), "full_int8", data)
    tfq.layers.freeze_ranges(wrapped)
    lows = [np.asarray(wrapper.ranges[0].low).copy() for wrapper in wrappers(wrapped)]
    wrapped(data * 5, training=True)
    assert lows == [np.asarray(wrapper.ranges[0].low) for wrapper in wrappers(wrapped)]
    tfq.layers.freeze_ranges(wrapped, frozen=False)
    wrapped(data * 5, training=True)
    assert lows != [np.asarray(wrapper.ranges[0].low) for wrapper in wrappers(wrapped)]


def limits(model: Any) -> list[tuple[float, float]]:
    return [found.limits() for wrapper in wrappers(model) for found in wrapper.every_range]


@pytest.mark.parametrize("after", [None, 2], ids=["freeze_ranges", "freeze_after"])
@pytest.mark.parametrize("recipe", ["full_int8", "full_int16x8"])
def test_freezing_keeps_learned_ranges_without_compiling_again(recipe: str, after: int | None, tmp_path: Path):
    wrapped = calibrated(sequential(), recipe, ROWS, learned=True, freeze_after=after)
    start = limits(wrapped)
    wrapped.compile(keras.optimizers.Adam(0.01), "mse")
    wrapped.fit(ROWS, ROWS[:, :3], batch_size=8, verbose=0)  # two steps
    before = limits(wrapped)
    assert not np.allclose(start, before, rtol=1e-3)
    if after is None:
        tfq.layers.freeze_ranges(wrapped)
    wrapped.fit(ROWS, ROWS[:, :3], batch_size=8, epochs=3, verbose=0)  # Adam's momentum still moves the steps
    np.testing.assert_allclose(limits(wrapped), before, rtol=1e-6)  # limits of a step are rounded to float32
    expected, content = np.asarray(wrapped(ROWS)), tfq.quantize(wrapped, data=ROWS).content
    wrapped.save(tmp_path / "frozen.keras")
    loaded = keras.saving.load_model(tmp_path / "frozen.keras")
    np.testing.assert_array_equal(np.asarray(loaded(ROWS)), expected)
    assert tfq.quantize(loaded, data=ROWS).content == content
    frozen = limits(wrapped)
    tfq.layers.freeze_ranges(wrapped, frozen=False)
    np.testing.assert_allclose(limits(wrapped), frozen, rtol=1e-6)
    if after is None:
        wrapped.fit(ROWS, ROWS[:, :3], batch_size=8, verbose=0)
        assert not np.allclose(limits(wrapped), frozen, rtol=1e-4)


def test_a_tensor_that_keras_calls_sparse_is_taken():
    """Keras 3 says so of a symbolic tensor times a number; a real sparse tensor is taken too."""
    inputs = keras.Input((7,))
    model = keras.Model(
        inputs, layers.Dense(3)(layers.DepthwiseConv1D(3, padding="same")(inputs[..., None] * 0.5)[:, 1])
    )
    wrapped = calibrated(model, "full_int8", ROWS)
    assert sqnr_db(np.asarray(wrapped(ROWS)), np.asarray(model(ROWS))) > 30
    sparse = keras.Input((7,), sparse=True)
    by_hand = keras.Model(sparse, tfq.layers.FineQuantize(layers.Dense(5), tfq.WeightSpec(8))(sparse))
    found = np.asarray(by_hand(keras.ops.convert_to_tensor(ROWS)))
    np.testing.assert_array_equal(np.asarray(by_hand(sparse_rows())), found)


def sparse_rows() -> Any:
    return importlib.import_module("tensorflow").sparse.from_dense(ROWS)


def test_ranges_that_no_wrapper_holds_are_those_of_the_simulated_weights():
    """The output of a subclassed model, which no wrapper knows; 2-bit codes make it half as large again.

    They are rounded to nearest over the whole extent: a clipped range would keep the size of the output.
    """
    model = Subclassed()
    model(ROWS)
    for layer in (model.first, model.more["last"]):
        kernel = RNG.uniform(0.55, 0.65, size=layer.kernel.shape)
        kernel[0] = 1.0  # the scale, which all values are rounded up to
        layer.kernel.assign(kernel)
    weights = tfq.WeightSpec(2, algorithm="round_to_nearest")
    recipe = tfq.Recipe("int2", tfq.OpSpec("integer", weights, tfq.ActivationSpec(8)))
    wrapped = calibrated(model, recipe, ROWS)
    expected = np.asarray(wrapped(ROWS))
    assert expected.max() > 1.4 * np.asarray(model(ROWS)).max()
    assert sqnr_db(file_outputs(tfq.quantize(wrapped, data=ROWS), ROWS), expected) > 35  # 8-bit steps


def test_raised_scales_are_reported():
    """A bias that is large next to its weights would overflow the sums of the kernel."""
    model = keras.Sequential([keras.Input((7,)), layers.Dense(3, name="dense")])
    model.layers[0].set_weights([np.full((7, 3), 1e-6), np.full(3, 50.0)])
    wrapped = calibrated(model, "full_int8", ROWS)
    assert "dense" in "".join(note for note in tfq.quantize(wrapped, data=ROWS).report.notes if "scales" in note)


def test_a_saved_model_opens_in_a_fresh_process(tmp_path: Path):
    wrapped = calibrated(sequential(), "full_int8", ROWS)
    path, samples, found = (tmp_path / name for name in ("wrapped.keras", "rows.npy", "found.tflite"))
    wrapped.save(path)
    np.save(samples, ROWS)
    code = "import sys, tfq_fine as tfq; tfq.quantize(sys.argv[1], data=sys.argv[2]).save(sys.argv[3])"
    command = [sys.executable, "-P", "-c", code, path, samples, found]
    subprocess.run(command, check=True, capture_output=True)
    assert found.read_bytes() == tfq.quantize(wrapped, data=ROWS).content


def test_dropout_masks_and_losses_of_the_wrapped_layer_are_kept():
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(11, 8, mask_zero=True)(inputs)
    lstm = layers.LSTM(5, activity_regularizer=keras.regularizers.L2(0.1), dropout=0.5)
    model = keras.Model(inputs, lstm(x))
    ids = RNG.integers(1, 11, (4, 6)).astype(np.int32)
    ids[:, 4:] = 0
    wrapped = tfq.annotate(model, "weight_only_int8")
    np.testing.assert_allclose(np.asarray(wrapped(ids)), np.asarray(model(ids)), atol=0.02)  # the mask is seen
    first, second = (np.asarray(wrapped(ids, training=True)) for _ in range(2))
    assert not np.array_equal(first, second)  # the generator of the dropout moves on
    assert len(wrapped.losses) == 1


def depthwise() -> Any:
    return layers.DepthwiseConv2D(3, depth_multiplier=2)


FOLDS = {  # name -> (shape, layers, how many norms are folded)
    "conv, norm": ((9, 8, 3), lambda: [layers.Conv2D(5, 3, padding="same"), layers.BatchNormalization()], 1),
    "grouped conv, norm": ((9, 8, 4), lambda: [layers.Conv2D(6, 3, groups=2), layers.BatchNormalization()], 1),
    "conv1d, norm": ((9, 3), lambda: [layers.Conv1D(5, 3, use_bias=False), layers.BatchNormalization()], 1),
    "depthwise, norm": ((9, 8, 3), lambda: [depthwise(), layers.BatchNormalization()], 1),
    "separable, norm": ((9, 8, 3), lambda: [layers.SeparableConv2D(5, 3), layers.BatchNormalization()], 1),
    "transposed, norm": ((9, 8, 3), lambda: [layers.Conv2DTranspose(5, 3, strides=2), layers.BatchNormalization()], 1),
    "dense, norm": ((7,), lambda: [layers.Dense(5), layers.BatchNormalization(scale=False)], 1),
    "norm, dense": ((7,), lambda: [layers.BatchNormalization(), layers.Dense(5, activation="relu")], 1),
    "norm, conv": ((9, 8, 3), lambda: [layers.BatchNormalization(), layers.Conv2D(5, 3)], 1),
    "norm, depthwise": ((9, 8, 3), lambda: [layers.BatchNormalization(), depthwise()], 1),
    "norm, separable": ((9, 8, 3), lambda: [layers.BatchNormalization(), layers.SeparableConv2D(5, 3)], 1),
    "norm, 1x1 same": ((9, 8, 3), lambda: [layers.BatchNormalization(), layers.Conv2D(5, 1, padding="same")], 1),
    "norm, norm": ((7,), lambda: [layers.Dense(5), layers.BatchNormalization(), layers.BatchNormalization()], 1),
    "norm, padded conv": ((9, 8, 3), lambda: [layers.BatchNormalization(), layers.Conv2D(5, 3, padding="same")], 0),
    "norm, transposed": ((9, 8, 3), lambda: [layers.BatchNormalization(), layers.Conv2DTranspose(5, 3)], 0),
    "activation between": ((7,), lambda: [layers.Dense(5, activation="relu"), layers.BatchNormalization()], 0),
    "another axis": ((9, 8, 3), lambda: [layers.Conv2D(5, 3), layers.BatchNormalization(axis=1)], 0),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDS)
@pytest.mark.parametrize("kind", ["sequential", "functional"])
def test_batch_norm_is_folded_where_that_is_exact(name: str, kind: str):
    shape, make, count = FOLDS[name]
    inputs = keras.Input(shape)
    model = keras.Sequential([inputs, *make()])
    if kind == "functional":
        x = inputs
        for layer in make():
            x = layer(x)
        model = keras.Model(inputs, x)
    for weight in model.weights:
        weight.assign(RNG.uniform(0.5, 2.0, weight.shape) * RNG.choice([-1, 1], weight.shape))
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_variance.assign(np.abs(layer.moving_variance))
    before = weights_of(model)
    found = tfq.fold_batch_norm(model)
    norms = sum(isinstance(layer, layers.BatchNormalization) for layer in model.layers)
    assert (len(found.folded), len(found.left)) == (count, norms - count)
    assert sum(isinstance(layer, layers.BatchNormalization) for layer in found.model.layers) == norms - count
    data = RNG.normal(size=(4, *shape)).astype(np.float32)
    expected = np.asarray(model(data))
    assert np.abs(np.asarray(found.model(data)) - expected).max() <= 2e-6 * np.abs(expected).max()  # float rounding
    assert all(np.array_equal(a, b) for a, b in zip(weights_of(model), before, strict=True))


def test_the_left_norms_are_named_with_reasons():
    inputs = keras.Input((9, 8, 3))
    x = layers.Conv2D(5, 3, name="conv")(inputs)
    model = keras.Model(inputs, [layers.BatchNormalization(name="norm")(x), layers.ReLU()(x)])
    left = tfq.fold_batch_norm(model).left
    assert "'conv' is used elsewhere" in left["norm"]


@pytest.mark.parametrize("jit", [False, True], ids=["plain", "jit"])
def test_recurrent_layers_train_over_states_that_are_quantized_as_they_come(jit: bool):
    """Gradients pass through all steps, and the wrapped cell is left as it was."""
    inputs = keras.Input((4, 5))
    model = keras.Model(inputs, layers.Dense(1)(layers.GRU(7, dropout=0.1, name="gru")(inputs)))
    data = np.random.default_rng(0).normal(size=(32, 4, 5)).astype(np.float32)
    wrapped = calibrated(model, "dynamic_int8", data)
    cell = wrapped.get_layer("gru").layer.cell
    before, activation = set(vars(cell)), cell.recurrent_activation
    first = np.asarray(cell.kernel).copy()
    wrapped.compile(keras.optimizers.Adam(0.02), "mse", jit_compile=jit)
    loss = wrapped.fit(data, data[:, 0].sum(1), epochs=8, batch_size=8, verbose=0).history["loss"]
    assert loss[-1] < 0.8 * loss[0]  # what the first of four steps brought
    assert not np.array_equal(first, np.asarray(cell.kernel))
    assert set(vars(cell)) == before and cell.recurrent_activation is activation


def test_learned_scales_move_by_shares_of_themselves():
    """Readers of one tensor then keep nearly one range, as the file has it. Scales that move by the rate itself, 3e-3
    where they are 0.01, left nothing in common: -23 dB on such a network."""
    inputs = keras.Input((12, 10, 3), name="x")
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(inputs)
    outputs = layers.Conv2D(5, 1, name="level")(x), layers.Conv2D(4, 3, name="shape")(x)
    model, data = keras.Model(inputs, outputs), images(32)
    wrapped = calibrated(model, "full_w4a8", data, learned=True)
    wrapped.compile(keras.optimizers.Adam(3e-3), "mse")
    rng = np.random.default_rng(0)
    wrapped.fit(data, [rng.normal(size=(32, *shape)) for shape in ((12, 10, 5), (10, 8, 4))], epochs=8, verbose=0)
    steps = [wrapper.ranges[0].step for wrapper in wrappers(wrapped)]
    assert all(0.9 < float(step.times.numpy()) < 1.1 for step in steps)
    assert any(float(step.times.numpy()) != 1 for step in steps)
    found = all_outputs(tfq.quantize(wrapped, data=data), {"x": data})
    for name, simulated in zip(("level", "shape"), wrapped(data), strict=True):
        expected = np.asarray(simulated)
        (values,) = (value for value in found.values() if value.shape == expected.shape)
        assert sqnr_db(values, expected) > 30, name


def test_what_a_plan_left_float_is_told():
    wrapped = calibrated(small_cnn(), "full_int8", images())
    result, parts = tfq.quantize(wrapped, data=images()), unwrapped(wrapped)
    found = parts.overrides(result.quantized.graph)
    key, _ = next(iter(found.codes))
    without = replace(result.quantized, ops={k: v for k, v in result.quantized.ops.items() if k != key})
    assert found.changed(result.quantized) == []
    (note,) = found.changed(without)
    assert note.startswith(result.quantized.graph.main.op_name(key[1])) and "float in the file" in note
