"""What tests/fine/tfmot/test_tfmot.py runs in a process of its own, since importing TFMOT switches `tf.keras`.

The process reads the name of a case from each line of stdin, and answers with what is wrong with it, as JSON.
"""

import json
import os
import sys
import tempfile
import traceback
from functools import partial
from typing import Any

import numpy as np
import pytest
import tensorflow_model_optimization as tfmot
import tf_keras
from tf_keras import layers

import tfq_fine as tfq
from support.graphs import codes_in_file
from tfq_converters.quantized import WeightCodes
from tfq_converters.runtime.runner import Runner
from tfq_fine.algorithms import WeightProblem, solve
from tfq_fine.numerics.affine import CodeFormat

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(32, 9, 8, 3)).astype(np.float32)
LABELS = RNG.integers(0, 5, 32)
START = RNG.bit_generator.state  # of each case
annotate = tfmot.quantization.keras.quantize_annotate_layer


def cnn(wrap: Any = lambda layer: layer, dense: Any = lambda layer: layer) -> Any:
    return tf_keras.Sequential(
        [
            layers.Input((9, 8, 3)),
            wrap(layers.Conv2D(6, 3, activation="relu", name="conv")),
            wrap(layers.DepthwiseConv2D(3, name="depthwise")),
            layers.Flatten(),
            dense(layers.Dense(5, name="head")),
        ]
    )


def trained(model: Any, epochs: int = 2) -> Any:
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf_keras.optimizers.Adam(5e-3), loss)
    model.fit(IMAGES, LABELS, epochs=epochs, batch_size=8, verbose=0)
    return model


def outputs(result: Any) -> np.ndarray:
    runner = Runner(result.content)
    return np.concatenate([runner.run([image[None]])[0] for image in IMAGES])


def sqnr_db(found: np.ndarray, expected: np.ndarray) -> float:
    return float(10 * np.log10(np.square(expected).sum() / np.square(found - expected).sum()))


def codes_of(result: Any, layer: str) -> WeightCodes:
    """The codes of the weight of a layer."""
    ops = result.quantized.graph.main.ops
    (found,) = (
        value
        for (_, o), op in result.quantized.ops.items()
        for value in op.weights.values()
        if isinstance(value, WeightCodes) and value.bits <= 8 and ops[o].layer == layer
    )
    return found


def fine() -> None:
    """Per-channel and group-wise weights train, and the file holds what was trained."""
    eight = tfq.tfmot.FineQuantizeConfig(tfq.WeightSpec(8), tfq.ActivationSpec(8))
    blocks = tfq.tfmot.FineQuantizeConfig(tfq.WeightSpec(4, tfq.Blocks(32)), tfq.ActivationSpec(8))
    model = cnn(lambda layer: annotate(layer, eight), lambda layer: annotate(layer, blocks))
    with tf_keras.utils.custom_object_scope({"FineQuantizeConfig": tfq.tfmot.FineQuantizeConfig}):
        model = trained(tfmot.quantization.keras.quantize_apply(model))
    result = tfq.quantize(model, data=IMAGES)
    codes = codes_of(result, "head")
    assert (codes.bits, codes.block) == (4, (1, 32))
    head = model.layers[-1]
    kernel, quantizer, memory = head._weight_vars[0]
    np.testing.assert_array_equal(codes.dequantize().T, quantizer(kernel.value(), False, memory).numpy())
    found = sqnr_db(outputs(result), model.predict(IMAGES, verbose=0))
    assert found > 24, found  # single steps of 8 bits
    low, high = (float(w) for w in head.weights if "post_activation" in w.name)
    ends = {op.outputs[0]: op.inputs[0] for op in result.graph.main.ops if op.code == "DEQUANTIZE"}
    scale = result.graph.main.tensors[ends[result.graph.main.outputs[0]]].quantization.scale[0]
    np.testing.assert_allclose(scale, (max(high, 0) - min(low, 0)) / 255, rtol=1e-6)


def stock() -> None:
    """A model trained with TFMOT's own scheme keeps its ranges."""
    model = trained(tfmot.quantization.keras.quantize_model(cnn()))
    head = model.layers[-1]
    for weight in head.weights:
        if "post_activation_max" in weight.name:
            weight.assign(100.0)
        if "post_activation_min" in weight.name:
            weight.assign(-50.0)
    result = tfq.quantize(model, data=IMAGES)
    ends = {op.outputs[0]: op.inputs[0] for op in result.graph.main.ops if op.code == "DEQUANTIZE"}
    scale = result.graph.main.tensors[ends[result.graph.main.outputs[0]]].quantization.scale[0]
    assert scale == np.float32(150 / 255)
    model = trained(tfmot.quantization.keras.quantize_model(cnn()))
    found = sqnr_db(outputs(tfq.quantize(model, data=IMAGES)), model.predict(IMAGES, verbose=0))
    assert found > 24, found  # single steps of 8 bits


def branched() -> Any:
    """What a scheme quantizes in ways of its own: fused norms, sums, poolings, concatenations, softmax in a layer."""
    inputs = layers.Input((9, 8, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same", use_bias=False)(inputs)))
    y = layers.ReLU(6.0)(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(x)))
    x = layers.MaxPooling2D(2)(layers.Add()([x, layers.Conv2D(6, 1, name="thin")(y)]))
    x = layers.Concatenate()([x, layers.Conv2D(5, 3, padding="same", activation="relu")(x)])
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling2D()(x))
    return tf_keras.Model(inputs, layers.Dense(5, activation="softmax", name="head")(x))


def without_data() -> None:
    """The ranges of TFMOT's own scheme, and those that follow from them, are all that a static file needs."""
    model = trained(tfmot.quantization.keras.quantize_model(branched()))
    expected = model.predict(IMAGES, verbose=0)
    before = {w.name.rsplit("/", 1)[-1]: w for w in model.layers[-1].weights}
    result = tfq.quantize(model, "full_int8")
    main = result.graph.main
    borders = {*main.inputs, *main.outputs}
    assert all(tensor.dtype != "float32" for t, tensor in enumerate(main.tensors) if t not in borders)
    found = sqnr_db(outputs(result), expected)
    assert found > 24, found  # single steps of 8 bits
    (softmax,) = [op for op in main.ops if op.code == "SOFTMAX"]
    low, high = (float(before[f"pre_activation_{end}:0"]) for end in ("min", "max"))
    scale = main.tensors[softmax.inputs[0]].quantization.scale[0]
    np.testing.assert_allclose(scale, (max(high, 0) - min(low, 0)) / 255, rtol=1e-6)
    other = tfq.quantize(model, "full_int8", data=IMAGES * 3)  # ranges are not the data's; biases are corrected by it
    scales = [[t.quantization.scale for t in r.graph.main.tensors if t.dtype == "int8"] for r in (result, other)]
    np.testing.assert_array_equal(*(np.concatenate(each) for each in scales))


def without_data_two_inputs() -> None:
    """Each input has the range that its own quantizer learned."""
    wide, narrow = layers.Input((7,), name="wide"), layers.Input((5,), name="narrow")
    x = layers.Concatenate()([layers.Dense(6, activation="relu")(wide), layers.Dense(6, activation="tanh")(narrow)])
    model = tf_keras.Model([wide, narrow], layers.Dense(3, activation="sigmoid")(x))
    model = tfmot.quantization.keras.quantize_model(model)
    model.compile("adam", "mse")
    data: dict[str, np.ndarray] = {
        "wide": 9 * RNG.normal(size=(64, 7)).astype(np.float32),
        "narrow": RNG.normal(size=(64, 5)),
    }
    model.fit(data, RNG.random((64, 3)), epochs=30, verbose=0)
    result = tfq.quantize(model, "full_int8")
    main, names = result.graph.main, result.graph.input_names()
    quantized = {op.inputs[0]: main.tensors[op.outputs[0]] for op in main.ops if op.code == "QUANTIZE"}
    steps = {name: quantized[t].quantization.scale[0] for name, t in zip(names, main.inputs, strict=True)}
    assert steps["wide"] > 5 * steps["narrow"]
    runner, expected = Runner(result.content), model.predict(data, verbose=0)
    feeds = [[data[name][n : n + 1].astype(np.float32) for name in names] for n in range(64)]
    found = sqnr_db(np.concatenate([runner.run(feed)[0] for feed in feeds]), expected)
    assert found > 24, found  # single steps of 8 bits


def saved() -> None:
    """What was saved as .h5 is loaded under TFMOT's scope, and gives the same file."""
    model = trained(tfmot.quantization.keras.quantize_model(cnn()))
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.h5")
        with tfmot.quantization.keras.quantize_scope():
            loaded = tfq.load_model(f"{folder}/model.h5", safe_mode=False)  # which names modules of TFMOT
    assert loaded.optimizer is not None
    assert tfq.quantize(loaded, "full_int8").content == tfq.quantize(model, "full_int8").content


def without_data_partly() -> None:
    """Tensors that no range was learned for, nor follows from others, are named in one error."""
    plain = branched()
    marked = tf_keras.models.clone_model(
        plain, clone_function=lambda layer: layer if layer.name in ("thin", "head") else annotate(layer)
    )
    model = trained(tfmot.quantization.keras.quantize_apply(marked))
    with pytest.raises(
        tfq.TfqError, match=r"give data=\.\.\.; the model itself has no range for model\w*/thin/.*, .*/head/"
    ):
        tfq.quantize(model, "full_int8")
    tfq.quantize(model, "full_int8", data=IMAGES)


def preserved() -> None:
    """Zeros and clusters survive training and are in the file."""
    model = cnn()
    kernel = model.get_layer("head").kernel
    values = RNG.choice([-0.3, -0.1, 0.0, 0.2, 0.4], kernel.shape).astype(np.float32)
    kernel.assign(values)
    per_tensor = tfq.WeightSpec(8, tfq.PerTensor())
    config = tfq.tfmot.FineQuantizeConfig(
        per_tensor, tfq.ActivationSpec(8), preserve_sparsity=True, preserve_clusters=True
    )
    marked = tf_keras.models.clone_model(
        model, clone_function=lambda layer: annotate(layer, config) if layer.name == "head" else layer
    )
    with tf_keras.utils.custom_object_scope({"FineQuantizeConfig": tfq.tfmot.FineQuantizeConfig}):
        applied = tfmot.quantization.keras.quantize_apply(marked)
    trained(applied)
    codes = codes_of(tfq.quantize(applied, data=IMAGES), "head")
    assert len(np.unique(codes.codes)) <= 5
    assert ((values.T == 0) <= (codes.codes == 0)).all()
    assert np.unique(codes.codes).size > 2


def normed() -> Any:
    """Batch norm after the convolution, which the converter folds into it."""
    return tf_keras.Sequential(
        [
            layers.Input((9, 8, 3)),
            layers.Conv2D(7, 3, use_bias=False, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(5, name="head"),
        ]
    )


CLUSTERED = ("conv", "head")


def cloned(model: Any, wrap: Any) -> Any:
    """A copy in which `wrap` is around the layers that are clustered."""
    return tf_keras.models.clone_model(
        model, clone_function=lambda layer: wrap(layer) if layer.name in CLUSTERED else layer
    )


def clustered_by_tfmot(model: Any, number: int) -> Any:
    """The model, trained with clustered kernels, without the wrappers of clustering."""
    clustering = tfmot.clustering.keras

    def wrap(layer: Any) -> Any:
        return clustering.cluster_weights(layer, number, clustering.CentroidInitialization.KMEANS_PLUS_PLUS)

    found = clustering.strip_clustering(trained(cloned(trained(model), wrap)))
    assert all(len(np.unique(found.get_layer(name).kernel)) <= number for name in CLUSTERED)
    return found


def clustered() -> None:
    """A clustered model that is only quantized has as many codes as clusters, where batch norm is folded too."""
    for make, number in ((cnn, 7), (normed, 11)):
        plain = clustered_by_tfmot(make(), number)
        if make is normed:
            plain.get_layer("norm").gamma.assign(RNG.uniform(0.2, 3, 7))
        for recipe in ("full_int8", "dynamic_int8", "weight_only_int4"):
            requested = tfq.RECIPES[recipe].with_algorithm("clusters")
            codes = codes_in_file(tfq.quantize(plain, requested, data=IMAGES, prefer="size"))
            counts = {name: len(np.unique(codes[name])) for name in CLUSTERED}
            assert all(2 < count <= number for count in counts.values()), (recipe, counts)
        nearest = codes_in_file(tfq.quantize(plain, "dynamic_int8", prefer="size"))
        assert any(len(np.unique(nearest[name])) > number for name in CLUSTERED)


def clusters_per_channel() -> None:
    """Trained with a scale for each channel, clusters survive training and the batch norm that is folded then."""
    model = trained(normed())
    centres = np.array([-0.3, -0.11, 0.0, 0.017, 0.2], np.float32)
    for name in CLUSTERED:
        kernel = model.get_layer(name).kernel
        values = RNG.choice(centres, kernel.shape)
        values[..., 2] = RNG.choice(centres[1:], kernel.shape[:-1])  # a channel whose extent is that of another cluster
        kernel.assign(values)
    model.get_layer("norm").gamma.assign(RNG.uniform(0.2, 3, 7))
    for weights in (tfq.WeightSpec(8), tfq.WeightSpec(4, tfq.Blocks(32))):
        config = tfq.tfmot.FineQuantizeConfig(weights, preserve_clusters=True)
        with tf_keras.utils.custom_object_scope({"FineQuantizeConfig": tfq.tfmot.FineQuantizeConfig}):
            applied = tfmot.quantization.keras.quantize_apply(cloned(model, partial(annotate, quantize_config=config)))
        trained(applied)
        result = tfq.quantize(applied)
        codes = codes_in_file(result)
        counts = {name: len(np.unique(codes[name])) for name in CLUSTERED}
        assert all(2 < count <= len(centres) for count in counts.values()), (weights, counts)
        conv, norm = applied.get_layer("quant_conv"), applied.get_layer("norm")
        kernel, quantizer, memory = conv._weight_vars[0]
        factor = norm.gamma / tf_keras.backend.sqrt(norm.moving_variance + norm.epsilon)
        simulated = np.moveaxis(quantizer(kernel.value(), False, memory).numpy() * factor.numpy(), -1, 0)
        rounding = 1e-6 if weights.bits == 8 else 2.0**-11  # float32 scales; float16 ones of blocks
        np.testing.assert_allclose(codes_of(result, "conv").dequantize(), simulated, rtol=rounding)


def clipped() -> None:
    """mse_clip chooses shares of the first extents; they stay while the weights move, and are in the file."""
    spec = tfq.WeightSpec(4, algorithm="mse_clip")
    config = tfq.tfmot.FineQuantizeConfig(spec, mode="dynamic")
    model = trained(cnn())
    first = model.get_layer("head").kernel.numpy().T
    with tf_keras.utils.custom_object_scope({"FineQuantizeConfig": tfq.tfmot.FineQuantizeConfig}):
        marked = tf_keras.models.clone_model(
            model, clone_function=lambda layer: annotate(layer, config) if layer.name == "head" else layer
        )
        applied = tfmot.quantization.keras.quantize_apply(marked)
    trained(applied)
    kernel, quantizer, memory = applied.layers[-1]._weight_vars[0]
    expected = solve(
        tfq.WeightSpec(algorithm="mse_clip"), WeightProblem(first, (1, first.shape[1]), CodeFormat(4))
    ).scale
    shares = expected / (np.abs(first).max(axis=1, keepdims=True) / 7)
    np.testing.assert_allclose(memory["shares"].numpy(), shares, rtol=1e-5)
    assert shares.min() < 0.95
    assert not np.allclose(kernel.numpy().T, first, rtol=1e-2)
    codes = codes_of(tfq.quantize(applied), "head")
    np.testing.assert_array_equal(codes.dequantize().T, quantizer(kernel.value(), False, memory).numpy())


def turned_round() -> None:
    """Scales of weight-only blocks may be negative, as `quantize` chooses them by the same algorithm."""
    spec = tfq.WeightSpec(2, tfq.Blocks(5), algorithm="mse_clip")
    model = trained(cnn())
    recipe = tfq.Recipe("blocks", tfq.OpSpec("weight_only", spec), flexible=True)
    expected = codes_of(tfq.quantize(model, recipe, quality="fast", transforms=None), "head")
    config = tfq.tfmot.FineQuantizeConfig(spec)
    with tf_keras.utils.custom_object_scope({"FineQuantizeConfig": tfq.tfmot.FineQuantizeConfig}):
        applied = tfmot.quantization.keras.quantize_apply(cloned(model, partial(annotate, quantize_config=config)))
    applied(IMAGES, training=True)  # the scales are chosen
    codes = codes_of(tfq.quantize(applied, transforms=None), "head")
    assert (expected.scale < 0).any()
    np.testing.assert_array_equal(codes.codes, expected.codes)
    np.testing.assert_array_equal(codes.scale, expected.scale)


def pruned() -> None:
    """A pruned model that is only quantized keeps its zeros."""
    schedule = tfmot.sparsity.keras.ConstantSparsity(0.6, 0, frequency=1)
    model = tfmot.sparsity.keras.prune_low_magnitude(cnn(), pruning_schedule=schedule)
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(IMAGES, LABELS, verbose=0, callbacks=[tfmot.sparsity.keras.UpdatePruningStep()])
    plain = tfmot.sparsity.keras.strip_pruning(model)
    kernel = np.asarray(plain.get_layer("head").kernel)
    codes = codes_of(tfq.quantize(plain, "full_int8", data=IMAGES), "head")
    assert (kernel == 0).mean() > 0.5
    assert ((kernel.T == 0) <= (codes.codes == 0)).all()


def bad() -> None:
    """Mistakes are one clear error."""
    config = tfq.tfmot.FineQuantizeConfig
    for make, message in (
        (lambda: config(tfq.WeightSpec(4, algorithm="clusters")), "use preserve_clusters=True"),
        (lambda: config(tfq.WeightSpec(4, algorithm="mse_clip"), preserve_clusters=True), "cannot keep clusters"),
        (lambda: config(4), "weights must be a WeightSpec in mode 'weight_only', found 4"),
        (lambda: config(tfq.WeightSpec(4, algorithm="wurst")), "unknown algorithm 'wurst'; known: auto"),
        (lambda: tfq.quantize(tfmot.quantization.keras.quantize_annotate_model(cnn())), "quantize_apply first"),
    ):
        with pytest.raises(tfq.TfqError, match=message):
            make()


def run(case: str) -> str:
    """What is wrong with a case; it begins as it would in a process of its own."""
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(0)
    RNG.bit_generator.state = START
    try:
        globals()[case]()
    except BaseException:
        return traceback.format_exc()
    return ""


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # TensorFlow prints
    for line in sys.stdin:
        answers.write(json.dumps(run(line.strip())) + "\n")
