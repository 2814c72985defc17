"""Verification against what the interpreter and numpy say, on files that TFLiteConverter made."""

import dataclasses
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import Quantization, Tensor
from tfq_converters.reading.reader import Source, read_model
from tfq_fine import verification
from tfq_fine.verification import layer_errors
from tfq_fine.verification.borders import match_borders
from tfq_fine.verification.keras_agreement import check_keras
from tfq_fine.verification.side import Side, decode, encode
from tfq_fine.verification.tensor_pairs import activation_pairs

keras: Any = pytest.importorskip("keras")
tf: Any = pytest.importorskip("tensorflow")
verify: Any = verification.verify  # Any: the tests know which optional parts a report has

SAMPLES = np.random.default_rng(0).normal(size=(24, 8, 8, 3)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 7, 24)


def _model(seed):
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(16, 3, activation="relu", name="first"),
            layers.Conv2D(16, 3, activation="relu", name="second", bias_initializer="normal"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(
                7, activation="softmax", name="scores", kernel_initializer=keras.initializers.RandomNormal(stddev=2.0)
            ),
        ]
    )


def _convert(model, **settings):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    for name, value in settings.items():
        setattr(converter, name, value)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Statistics for quantized inputs")  # calibration makes them
        return converter.convert()


def _representative():
    for sample in SAMPLES:
        yield [sample[None]]


@pytest.fixture(scope="module")
def model():
    return _model(0)


@pytest.fixture(scope="module")
def files(model):
    """The float file and its quantized ones, by kind."""
    optimized = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    integer = optimized | {"representative_dataset": _representative}
    return {
        "float": _convert(model),
        "other float": _convert(_model(1)),
        "dynamic": _convert(model, **optimized),
        "float16": _convert(model, **optimized, target_spec=tf.lite.TargetSpec(supported_types=[tf.float16])),
        "int8": _convert(model, **integer),
        "uint8 borders": _convert(model, **integer, inference_input_type=tf.uint8, inference_output_type=tf.uint8),
    }


KINDS = ("other float", "dynamic", "float16", "int8", "uint8 borders")


def _interpreted(content, samples=SAMPLES):
    """Outputs, sample by sample; integers converted by the scales that the interpreter reports."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    (fed,), (read,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for sample in samples:
        value = sample[None]
        if fed["dtype"] != np.float32:
            scale, zero = fed["quantization"]
            value = np.clip(np.round(value / scale) + zero, 0, 255).astype(fed["dtype"])
        interpreter.set_tensor(fed["index"], value)
        interpreter.invoke()
        output = interpreter.get_tensor(read["index"])
        if read["dtype"] != np.float32:
            scale, zero = read["quantization"]
            output = (output.astype(np.float64) - zero) * scale
        found.append(output[0])
    return np.array(found, np.float64)


# --------------------------------------------------------------------------------------------------- outputs


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_compared_as_the_interpreter_computes_them(files, kind):
    x, y = _interpreted(files["float"]), _interpreted(files[kind])
    report = verify(files["float"], files[kind], SAMPLES, latency=False, layers=False)
    (output,) = report.outputs
    # 1e-4: decoded values are float32, and so are the errors of close files
    assert output.sqnr_db == pytest.approx(10 * np.log10(np.sum(x**2) / np.sum((x - y) ** 2)), rel=1e-4)
    assert output.max_error == pytest.approx(np.abs(x - y).max(), rel=1e-4)
    assert output.cosine == pytest.approx(np.sum(x * y) / np.sqrt(np.sum(x**2) * np.sum(y**2)), rel=1e-6)
    assert output.top1_agreement == np.mean(x.argmax(1) == y.argmax(1))
    assert output.name == "output_0"
    assert report.samples == 24
    assert report.task is None
    assert report.latency is None
    assert report.layers == report.weights == ()


@pytest.mark.parametrize("kind", ["other float", "int8", "uint8 borders"])
def test_the_metric_of_both_and_the_drop(files, kind):
    x, y = _interpreted(files["float"]), _interpreted(files[kind])
    labels = np.where(np.arange(24) % 3, x.argmax(1), LABELS)
    task = verify(files["float"], files[kind], SAMPLES, labels, metric="top1", latency=False, layers=False).task
    before, after = np.mean(x.argmax(1) == labels), np.mean(y.argmax(1) == labels)
    assert (task.name, task.float_value, task.quantized_value) == ("top1", before, pytest.approx(after))
    assert task.drop == pytest.approx(before - after)
    if kind == "other float":
        assert task.drop > 0.2  # other weights, so the test sees the sign


def test_an_error_that_rises_is_a_drop(files):
    task = verify(
        files["float"],
        files["other float"],
        SAMPLES,
        _interpreted(files["float"]),
        metric="mse",
        latency=False,
        layers=False,
    ).task
    assert task.float_value < 1e-12
    assert task.drop == pytest.approx(task.quantized_value - task.float_value)
    assert task.drop > 1e-3
    assert not task.higher_is_better


def test_a_function_as_metric_sees_each_model_once(files):
    seen = []

    def metric(outputs, labels):
        seen.append(outputs)
        return float(len(labels))

    report = verify(files["float"], files["int8"], SAMPLES, LABELS, metric=metric, latency=False, layers=False)
    assert (report.task.float_value, report.task.drop) == (24.0, 0.0)
    assert len(seen) == 2
    np.testing.assert_allclose(seen[0], _interpreted(files["float"]), atol=1e-6)  # float32 from float64
    np.testing.assert_allclose(seen[1], _interpreted(files["int8"]), atol=1e-6)


def test_the_batch_size_changes_nothing(files):
    reports = [
        verify(files["float"], files["int8"], SAMPLES, LABELS, metric="top1", batch_size=n, latency=False)
        for n in (1, 7, 24)
    ]
    for report in reports[1:]:
        # XNNPACK sums in another order for other batch sizes: int8 outputs are one step of 1/256 apart at most
        assert report.outputs[0].max_error == pytest.approx(reports[0].outputs[0].max_error, abs=1 / 256)
        assert report.outputs[0].sqnr_db == pytest.approx(reports[0].outputs[0].sqnr_db, abs=1.0)
        assert report.samples == 24
    assert [report.layer_samples for report in reports] == [8, 14, 24]


def test_limit_and_progress(files):
    done: list[int] = []
    report = verify(files["float"], files["int8"], SAMPLES, limit=5, batch_size=2, latency=False, on_batch=done.append)
    assert report.samples == 5
    assert done == [2, 4, 5]


def test_a_broken_file_is_seen(files):
    graph = flatbuffer.read(files["float"])
    main = graph.main
    bias = next(t for t, tensor in enumerate(main.tensors) if tensor.shape == (16,) and np.any(tensor.data))
    broken = np.array(main.tensors[bias].data)
    broken[3] = np.nan
    tensors = [dataclasses.replace(t, data=broken) if i == bias else t for i, t in enumerate(main.tensors)]
    content = flatbuffer.write(
        dataclasses.replace(graph, subgraphs=(dataclasses.replace(main, tensors=tuple(tensors)),))
    )
    report = verify(files["float"], content, SAMPLES, LABELS, metric="top1", latency=False)
    assert math.isnan(report.outputs[0].sqnr_db)
    assert report.outputs[0].top1_agreement == 0
    assert report.task.quantized_value == 0
    assert math.isnan(report.worst_layers(1)[0].sqnr_db)


# ---------------------------------------------------------------------------------------------------- layers


def _preserved(content, samples):
    """name -> values of every tensor over the samples, read from an interpreter that keeps them."""
    interpreter = Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    found: dict[str, list[np.ndarray]] = {}
    for sample in samples:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample[None])
        interpreter.invoke()
        for detail in interpreter.get_tensor_details():
            if list(detail["shape_signature"][:1]) != [-1]:
                continue  # constants, some of which have the name of an activation
            parameters = detail["quantization_parameters"]
            value = interpreter.get_tensor(detail["index"]).astype(np.float64)
            if len(parameters["scales"]) == 1:
                value = (value - parameters["zero_points"][0]) * parameters["scales"][0]
            found.setdefault(detail["name"], []).append(value)
    return {name: np.array(values) for name, values in found.items()}


@pytest.mark.parametrize("kind", ["dynamic", "float16", "int8"])
def test_activations_are_those_that_an_interpreter_keeps(files, kind):
    report = verify(files["float"], files[kind], SAMPLES, kernels="optimized", latency=False)
    x, y = _preserved(files["float"], SAMPLES[:8]), _preserved(files[kind], SAMPLES[:8])
    codes = ["CONV_2D", "CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"]
    if kind == "float16":
        codes = ["CONV_2D", "MEAN", "SOFTMAX"]  # the converter renames the other two
    assert [error.code for error in report.layers] == codes
    assert report.layer_samples == 8
    for error in report.layers:
        a, b = x[error.name], y[error.name]
        with np.errstate(divide="ignore"):  # the dynamic file leaves the first convolution in float: exact
            expected = 10 * np.log10(np.sum(a**2) / np.sum((a - b) ** 2))
        assert error.sqnr_db == pytest.approx(expected, rel=1e-4)  # as for outputs
        assert error.max_error == pytest.approx(np.abs(a - b).max(), rel=1e-4)
    assert {error.dtype for error in report.layers} == ({"int8", "float32"} if kind == "int8" else {"float32"})


def test_layers_are_named_and_the_worst_come_first(files):
    report = verify(files["float"], files["int8"], SAMPLES, latency=False)
    assert [error.layer for error in report.layers][:2] == ["first", "second"]
    found = [error.sqnr_db for error in report.worst_layers(99)]
    assert found == sorted(error.sqnr_db for error in report.layers)


def test_activations_are_probed_in_chunks_when_they_are_large(files, monkeypatch):
    graphs = flatbuffer.read(files["float"]), flatbuffer.read(files["int8"])
    samples = [([sample[None]], [sample[None]]) for sample in SAMPLES[:3]]
    at_once = layer_errors.activation_errors(*graphs, samples, "reference")
    monkeypatch.setattr(layer_errors, "PROBE_BYTES", 4 * 16 * 6 * 6 + 1)  # the first activation, and no other
    chunks = Mock(wraps=layer_errors.probe)
    monkeypatch.setattr(layer_errors, "probe", chunks)
    assert layer_errors.activation_errors(*graphs, samples, "reference") == at_once
    assert chunks.call_count == 2 * 2  # of each of both files


def test_constants_are_those_that_the_interpreter_reads(files, model):
    """Per-channel int8 weights."""
    report = verify(files["float"], files["int8"], SAMPLES[:1], latency=False)
    interpreter = Interpreter(model_content=files["int8"])
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    by_shape = {}
    for index, detail in details.items():
        scales = detail["quantization_parameters"]["scales"]
        if len(scales) > 1 and detail["dtype"] == np.int8:
            axis = detail["quantization_parameters"]["quantized_dimension"]
            along = [-1 if a == axis else 1 for a in range(len(detail["shape"]))]
            by_shape[tuple(detail["shape"])] = interpreter.get_tensor(index) * scales.reshape(along).astype(np.float64)
    kernels = {
        (16, 3, 3, 3): model.get_layer("first").kernel.numpy().transpose(3, 0, 1, 2),
        (16, 3, 3, 16): model.get_layer("second").kernel.numpy().transpose(3, 0, 1, 2),
        (7, 16): model.get_layer("scores").kernel.numpy().T,
    }
    found = {error.code + error.layer: error for error in report.weights if error.dtype == "int8"}
    assert list(found) == ["CONV_2Dfirst", "CONV_2Dsecond", "FULLY_CONNECTEDscores"]
    for error, (shape, kernel) in zip(found.values(), kernels.items(), strict=True):
        noise = np.sum((kernel - by_shape[shape]) ** 2)
        assert error.sqnr_db == pytest.approx(10 * np.log10(np.sum(kernel.astype(np.float64) ** 2) / noise), rel=1e-4)
    assert len(report.weights) == len(found)  # biases in 32 bits are not listed


@pytest.mark.parametrize(("kind", "least"), [("dynamic", 35), ("float16", 65)])
def test_constants_behind_other_kinds_of_files(files, kind, least):
    """8 bits of rounding noise on bell-shaped weights stay above 35 dB; 11 bits of significand above 65 dB."""
    report = verify(files["float"], files[kind], SAMPLES[:1], latency=False)
    assert report.weights
    assert all(error.sqnr_db > least for error in report.weights)
    assert {error.dtype for error in report.weights} == {"int8" if kind == "dynamic" else "float16"}


def test_a_name_that_occurs_twice_pairs_nothing(files):
    graph = flatbuffer.read(files["int8"])
    main = graph.main
    names = [main.tensors[op.outputs[0]].name for op in main.ops]
    twice = [
        dataclasses.replace(t, name=names[1]) if t.name == names[2] and not t.is_constant else t for t in main.tensors
    ]
    changed = dataclasses.replace(graph, subgraphs=(dataclasses.replace(main, tensors=tuple(twice)),))
    before, after = (activation_pairs(flatbuffer.read(files["float"]), g) for g in (graph, changed))
    assert len(after) == len(before) - 2


def test_constants_in_the_bodies_of_loops():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5, 8), batch_size=1), keras.layers.LSTM(24, name="memory")])
    dynamic = _convert(model, optimizations=[tf.lite.Optimize.DEFAULT])
    data = np.random.default_rng(0).normal(size=(3, 5, 8)).astype(np.float32)
    report = verify(_convert(model), dynamic, data, batch_size=4)
    assert report.samples == 3
    assert report.latency.batch_size == 1
    (error,) = report.weights  # the input's kernel is below the 1024 values that the converter asks for
    assert (error.layer, error.code, error.dtype) == ("memory", "FULLY_CONNECTED", "int8")
    assert error.sqnr_db > 35  # as above
    assert 20 < report.outputs[0].sqnr_db < 100


# ----------------------------------------------------------------------------------------- sizes and latency


def test_bytes_by_type(files, model):
    report = verify(files["float"], files["int8"], SAMPLES[:1], latency=False, layers=False)
    kernels = sum(model.get_layer(name).kernel.numpy().size for name in ("first", "second", "scores"))
    assert report.float_size.file_bytes == len(files["float"])
    assert report.quantized_size.file_bytes == len(files["int8"])
    zero_bias = 16 + 0  # convolutions get one even when it is zero; the converter drops it from the dense layer
    assert report.float_size.by_type["float32"] == 4 * (kernels + 16 + zero_bias)
    assert report.quantized_size.by_type["int8"] == kernels
    assert "float32" not in report.quantized_size.by_type


def test_latency_of_real_files(files):
    latency = verify(files["float"], files["int8"], SAMPLES[:3], layers=False, threads=2).latency
    assert latency.float_ms > 0
    assert latency.quantized_ms > 0
    assert (latency.batch_size, latency.threads) == (1, 2)
    assert latency.repeats > 100  # microseconds each


# --------------------------------------------------------------------------------------------------- borders


@pytest.fixture(scope="module")
def crossed():
    """A model of two inputs and two outputs, and the same file with both in another order."""
    layers = keras.layers
    a, b = keras.Input((3,), name="alpha"), keras.Input((5,), name="beta")
    hidden = layers.Concatenate()([layers.Dense(4, name="from_alpha")(a), layers.Dense(4, name="from_beta")(b)])
    outputs = {"one": layers.Dense(2, name="one")(hidden), "two": layers.Dense(6, name="two")(hidden)}
    content = _convert(keras.Model([a, b], outputs))
    graph = flatbuffer.read(content)
    main = graph.main
    turned = dataclasses.replace(main, inputs=main.inputs[::-1], outputs=main.outputs[::-1])
    return content, flatbuffer.write(dataclasses.replace(graph, subgraphs=(turned,)))


def test_inputs_and_outputs_are_matched_by_name(crossed):
    rng = np.random.default_rng(0)
    data = {"alpha": rng.normal(size=(6, 3)).astype("f"), "beta": rng.normal(size=(6, 5)).astype("f")}
    report = verify(*crossed, data, latency=True)
    assert {output.name for output in report.outputs} == {"one", "two"}
    assert [output.sqnr_db for output in report.outputs] == [math.inf, math.inf]
    assert all(error.sqnr_db == math.inf for error in report.layers)
    agreements = {output.name: output.top5_agreement for output in report.outputs}
    assert agreements == {"one": None, "two": 1.0}


def test_a_named_metric_refuses_two_outputs_and_a_function_gets_them_by_name(crossed):
    data = {"alpha": np.zeros((6, 3), "f"), "beta": np.zeros((6, 5), "f")}
    with pytest.raises(TfqError, match="this metric reads one"):
        verify(*crossed, data, np.zeros(6), metric="top1")
    report = verify(*crossed, data, np.zeros(6), metric=lambda outputs, labels: outputs["two"].shape[1], latency=False)
    assert report.task.float_value == 6


@pytest.mark.parametrize("fixed", ["float", "quantized"])
def test_a_file_of_fixed_batch_gets_it(files, fixed):
    graph = flatbuffer.read(files["float"])
    main = graph.main
    tensors = tuple(dataclasses.replace(tensor, shape_signature=None) for tensor in main.tensors)
    pinned = flatbuffer.write(dataclasses.replace(graph, subgraphs=(dataclasses.replace(main, tensors=tensors),)))
    pair = (pinned, files["float"]) if fixed == "float" else (files["float"], pinned)
    report = verify(*pair, SAMPLES[:5], batch_size=4)
    assert report.latency.batch_size == 1
    assert report.samples == 5
    assert report.outputs[0].sqnr_db > 120  # the same arithmetic


def test_integer_borders_saturate_and_round():
    tensor = Tensor("x", (6,), "int8", quantization=Quantization(np.array([0.5], np.float32), np.array([10])))
    fed = np.array([-1e9, -69.0, 0.0, 0.26, 0.24, 1e9], np.float32)
    assert encode(fed, tensor).tolist() == [-128, -128, 10, 11, 10, 127]
    assert decode(np.array([-128, 10, 11], np.int8), tensor).tolist() == [-69.0, 0.0, 0.5]
    assert encode(np.array([3], np.int64), Tensor("ids", (1,), "int32")).dtype == np.int32
    with pytest.raises(TfqError, match="'x' is int8 without a scale"):
        encode(fed, Tensor("x", (1,), "int8"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": (0, 0)}, r"the float model has 1 inputs \(keras_tensor.*\), the quantized file 2"),
        ({"outputs": ()}, r"1 outputs \(output_0\), the quantized file 0"),
    ],
)
def test_files_that_do_not_belong_together(files, change, message):
    graph = flatbuffer.read(files["float"])
    other = dataclasses.replace(graph, subgraphs=(dataclasses.replace(graph.main, **change),))
    with pytest.raises(TfqError, match=message):
        match_borders(graph, other)


def test_shapes_that_do_not_belong_together(files, crossed):
    with pytest.raises(TfqError, match="the float model has 1 inputs"):
        verify(files["float"], crossed[0], SAMPLES)
    graph = flatbuffer.read(files["float"])
    fed = graph.main.inputs[0]
    tensors = [
        dataclasses.replace(t, shape=(1, 9, 8, 3), shape_signature=(-1, 9, 8, 3)) if i == fed else t
        for i, t in enumerate(graph.main.tensors)
    ]
    other = dataclasses.replace(graph, subgraphs=(dataclasses.replace(graph.main, tensors=tuple(tensors)),))
    with pytest.raises(TfqError, match=r"\[n, 8, 8, 3\] float32 in the float model, \[n, 9, 8, 3\] float32 in the"):
        match_borders(graph, other)


# ----------------------------------------------------------------------------------------------------- state


def test_samples_do_not_see_the_state_of_resource_variables():
    class Sum(tf.Module):
        def __init__(self):
            super().__init__()
            self.total = tf.Variable(tf.zeros((1, 3)))

        @tf.function(input_signature=[tf.TensorSpec((1, 3), tf.float32)])
        def add(self, x):
            self.total.assign_add(x)
            return {"total": self.total.read_value()}

    module = Sum()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.add.get_concrete_function()], module)
    converter.experimental_enable_resource_variables = True
    _check_no_memory(converter.convert(), np.ones((1, 3), np.float32))


def test_samples_do_not_see_the_state_of_fused_recurrent_operators():
    tf_keras = pytest.importorskip("tf_keras")
    model = tf_keras.Sequential([tf_keras.Input((4, 3), batch_size=1), tf_keras.layers.LSTM(5)])
    content = _convert(model)
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in {op.code for _, op in flatbuffer.read(content).ops()}
    _check_no_memory(content, np.random.default_rng(0).normal(size=(1, 4, 3)).astype(np.float32))


def _check_no_memory(content, sample):
    side = Side(flatbuffer.read(content), content)
    first, second = side.run([sample]), side.run([sample])
    assert np.any(first[0])
    np.testing.assert_array_equal(first[0], second[0])
    remembering = Interpreter(model_content=content)
    remembering.allocate_tensors()
    for _ in range(2):
        remembering.set_tensor(remembering.get_input_details()[0]["index"], sample)
        remembering.invoke()
    again = remembering.get_tensor(remembering.get_output_details()[0]["index"])
    assert not np.array_equal(again, first[0])  # so there is a state to forget


# ----------------------------------------------------------------------------------------------------- Keras


def test_a_keras_model_as_the_float_side(model, files):
    report = verify(model, files["int8"], SAMPLES, LABELS, metric=keras.metrics.SparseCategoricalAccuracy())
    plain = verify(files["float"], files["int8"], SAMPLES, LABELS, metric="top1", latency=False)
    assert report.outputs[0].sqnr_db == pytest.approx(plain.outputs[0].sqnr_db, abs=0.1)  # conversions may differ
    assert report.task.quantized_value == pytest.approx(plain.task.quantized_value, abs=1e-6)  # Keras sums in float32
    assert [error.layer for error in report.layers] == ["first", "second", "pool", "scores", "scores"]


def test_a_float_graph_of_another_model_is_refused(files):
    source = dataclasses.replace(read_model(files["float"]), keras_model=_model(1))
    with pytest.raises(TfqError, match=r"'output_0': the float graph differs from what the Keras model predicts"):
        verify(source, files["int8"], SAMPLES)


def test_a_random_keras_model_is_noted(files):
    class Noise(keras.layers.Layer):
        def call(self, x):
            return x + keras.random.normal((1, 7))

    noisy = keras.Sequential([*_model(0).layers, Noise()])
    noisy.build((None, 8, 8, 3))
    source = dataclasses.replace(read_model(files["float"]), keras_model=noisy)
    side = Side(source.graph, source.content)
    (note,) = check_keras(source, [SAMPLES[:1]], side.run([SAMPLES[:1]]))
    assert "random" in note


def test_without_tensorflow(files, tmp_path):
    for name in ("float", "int8"):
        (tmp_path / f"{name}.tflite").write_bytes(files[name])
    np.savez(tmp_path / "test.npz", x=SAMPLES, labels=LABELS)
    code = """
        import sys
        from tfq_fine.verification import verify
        report = verify("float.tflite", "int8.tflite", "test.npz", metric="top1")
        assert report.samples == 24 and report.task and report.layers and report.latency, report
        print(sorted({name.split(".")[0] for name in sys.modules} & {"tensorflow", "keras", "tf_keras"}))
    """
    code = "\n".join(line.strip() for line in code.splitlines())
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, env=_environment()
    )
    assert done.stdout.strip() == "[]", done.stderr


def _environment():
    root = Path(__file__).parents[3]
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'converters'}"}


# ------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None}, "that needs data"),
        ({"data": SAMPLES[:, :5]}, r"8, 8, 3"),
        ({"data": np.full_like(SAMPLES, np.nan)}, "nan is not a finite number"),
        ({"metric": "top1"}, "metric 'top1' needs labels"),
        ({"metric": "top1", "labels": LABELS[:5]}, "labels"),
        ({"metric": "top1", "labels": LABELS + 7}, "classes 0 to 6"),
        ({"metric": "f1"}, "unknown metric 'f1'"),
        ({"kernels": "fast"}, "default, optimized, reference, found 'fast'"),
        ({"tflite": 3}, "tflite: expected the path or the bytes"),
        ({"tflite": "no.tflite"}, "no.tflite cannot be read"),
        ({"tflite": b"nonsense"}, "not a TFLite file"),
        ({"model": "no.tflite"}, "no.tflite does not exist"),
    ],
)
def test_bad_input(files, changes, message):
    arguments = {"model": files["float"], "tflite": files["int8"], "data": SAMPLES} | changes
    with pytest.raises(TfqError, match=message):
        verify(arguments.pop("model"), arguments.pop("tflite"), arguments.pop("data"), **arguments)


def test_the_float_side_must_be_float(files):
    with pytest.raises(TfqError, match="already quantized"):
        verify(files["int8"], files["float"], SAMPLES)


def test_labels_without_a_metric_are_noted(files):
    report = verify(files["float"], files["int8"], SAMPLES, LABELS, latency=False, layers=False)
    assert "labels were given without a metric" in report.notes[-1]


def test_a_source_is_taken_as_it_is(files):
    source = read_model(files["float"])
    assert isinstance(source, Source)
    noted = dataclasses.replace(source, notes=("a note",))
    assert verify(noted, files["int8"], SAMPLES[:1], latency=False, layers=False).notes == ("a note",)
