"""What tests/test_tfmot.py runs in processes of their own, since importing TFMOT switches `tf.keras`."""

import sys
from typing import Any

import numpy as np
import pytest
import tensorflow_model_optimization as tfmot
import tf_keras
from tf_keras import layers

import tfq_fine as tfq
from tfq_converters.quantized import WeightCodes
from tfq_converters.runtime import Runner

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(32, 9, 8, 3)).astype(np.float32)
LABELS = RNG.integers(0, 5, 32)
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
    for make, message in (
        (lambda: tfq.tfmot.FineQuantizeConfig(tfq.WeightSpec(4, algorithm="mse_clip")), "algorithm 'mse_clip' cannot"),
        (lambda: tfq.tfmot.FineQuantizeConfig(preserve_clusters=True), "PerTensor"),
        (lambda: tfq.quantize(tfmot.quantization.keras.quantize_annotate_model(cnn())), "quantize_apply first"),
    ):
        with pytest.raises(tfq.TfqError, match=message):
            make()


if __name__ == "__main__":
    tf_keras.utils.set_random_seed(0)
    globals()[sys.argv[1]]()
