"""Mistakes in representative data are told with the figure that shows them, and sound data brings no warning."""

from dataclasses import replace

import numpy as np
import pytest

from support.graphs import images, small_cnn
from support.nets import Net
from tfq_converters import flatbuffer
from tfq_converters.graph import Graph, Op, Options, Subgraph, Tensor
from tfq_converters.runtime import Runner
from tfq_fine.api import quantize
from tfq_fine.calibration.few_codes import few_codes
from tfq_fine.calibration.statistics import Range
from tfq_fine.calibration.unlikely_data import data_warnings, few_samples
from tfq_fine.calibration.unlikely_scale import unlikely_scale, wide_scores

RNG = np.random.default_rng(0)
KERNEL = (RNG.normal(size=(7, 3, 3, 3)) / np.sqrt(27)).astype(np.float32)  # as a trained layer: it answers with about 1


def _trained(scale: float | None = None) -> Graph:
    """`small_cnn` with a first layer for inputs of deviation 1; after a MUL by `scale` where there is one."""
    graph = small_cnn()
    main = graph.main
    tensors = [replace(t, data=KERNEL) if t.name == "conv/kernel" else t for t in main.tensors]
    ops = list(main.ops)
    if scale is not None:
        tensors += [Tensor("factor", (), "float32", data=np.array(scale, np.float32))]
        tensors += [replace(main.tensors[0], name="rescaled")]
        ops[0] = replace(ops[0], inputs=(len(tensors) - 1, *ops[0].inputs[1:]))
        mul = Op(
            "MUL", (0, len(tensors) - 2), (len(tensors) - 1,), Options("MulOptions", {"fusedActivationFunction": 0})
        )
        ops.insert(0, mul)
    return replace(graph, subgraphs=(replace(main, tensors=tuple(tensors), ops=tuple(ops)),))


PIXELS = RNG.integers(0, 256, (16, 9, 11, 3))


def _warnings(graph: Graph, data: np.ndarray, recipe: str = "full_int8") -> tuple[str, ...]:
    return quantize(flatbuffer.write(graph), recipe, data).report.warnings


@pytest.mark.parametrize("recipe", ["full_int8", "dynamic_int8"])
def test_sound_data_brings_no_warning(recipe):
    assert _warnings(_trained(), images(16), recipe) == ()
    assert _warnings(_trained(1 / 128), PIXELS.astype(np.uint8), recipe) == ()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pixels_for_a_model_trained_on_3(dtype):
    """The case of a top-1 of 1.000 that became 0.296 without a word."""
    (warning,) = (told for told in _warnings(_trained(), PIXELS.astype(dtype)) if "pixels" in told)
    assert "input 'images' holds values whole numbers, as of pixels that were not rescaled (0 to 255)" in warning
    assert "to which conv (CONV_2D) answers with about 1" in warning


def test_pixels_for_a_model_that_gives_scores():
    """Its first layer answers with 70, as one for pixels might; the scores tell."""
    main = _trained().main
    tensors = [replace(t, data=KERNEL / 2) if t.name == "conv/kernel" else t for t in main.tensors]
    graph = Graph((replace(main, tensors=tuple(tensors), ops=main.ops[:-1], outputs=(main.ops[-1].inputs[0],)),))
    samples = [(row[None].astype(np.float32),) for row in PIXELS]
    (warning,) = unlikely_scale(graph, samples)
    assert "answers with about 7" in warning
    assert list(unlikely_scale(graph, [(sample / np.float32(128),) for (sample,) in samples])) == []


def test_a_model_trained_on_pixels_as_they_are_brings_no_warning():
    """Its first layer answers with 85 or so, and later layers bring that back to scores of some units."""
    graph = _trained()
    dense = next(t for t, tensor in enumerate(graph.main.tensors) if tensor.name == "dense/kernel")
    tensors = list(graph.main.tensors)
    tensors[dense] = replace(tensors[dense], data=np.asarray(tensors[dense].data) / np.float32(100))
    quiet = replace(graph, subgraphs=(replace(graph.main, tensors=tuple(tensors)),))
    assert list(unlikely_scale(quiet, [(row[None].astype(np.float32),) for row in PIXELS])) == []


def test_pixels_that_were_rescaled_twice():
    (warning,) = unlikely_scale(_trained(1 / 255), [((PIXELS / 255 / 255).astype(np.float32),)])
    assert "from 0 to 0.003922" in warning and "answers with about 8.5e-06" in warning


def test_few_samples(caplog):
    found = _warnings(_trained(), images(1))
    assert "the data has 1 sample:" in found[0]
    assert [record.message for record in caplog.records] == list(found)  # on the terminal, too
    assert len(list(few_samples(7))) == 1 and list(few_samples(8)) == list(few_samples(None)) == []


def test_constant_data():
    one = np.repeat(images(1), 16, axis=0)
    assert any("is the same in all" in warning for warning in _warnings(_trained(), one))
    flat = np.ones((16, 9, 11, 3), np.float32) * np.arange(1, 17, dtype=np.float32).reshape(-1, 1, 1, 1) / 8
    assert any("holds one number in each sample" in warning for warning in _warnings(_trained(), flat))


def test_outputs_that_do_not_change():
    graph = small_cnn(weight_scale=0.0)
    found = data_warnings(graph, None, None, [(images(1, n),) for n in range(4)])
    assert any("output 'scores' of the float model is the same for 4 samples that differ" in told for told in found)


def test_scores_that_are_far_apart():
    graph = small_cnn()
    logits = next(t for t, tensor in enumerate(graph.main.tensors) if tensor.name == "logits")
    (warning,) = wide_scores(graph, {logits: Range(-210.0, 640.0)})
    assert "softmax (SOFTMAX) reads go from -210 to 640" in warning
    assert list(wide_scores(graph, {logits: Range(-21.0, 64.0)})) == []


def _detector(boxes: float) -> tuple[Graph, np.ndarray]:
    """A head that puts boxes of up to `boxes` pixels and scores of 0 to 1 into one output."""
    net = Net(1, 16)
    scaled = net.add(
        "MUL", (net.dense(0, 4), net.constant(np.array(boxes / 4, np.float32))), (1, 4),
        Options("MulOptions", {"fusedActivationFunction": 0}),
    )  # fmt: skip
    scores = net.add("LOGISTIC", (net.dense(0, 12),), (1, 12))
    both = Options("ConcatenationOptions", {"axis": 1, "fusedActivationFunction": 0})
    out = net.add("CONCATENATION", (scaled, scores), (1, 16), both)
    main = Subgraph("main", tuple(net.tensors), tuple(net.ops), (0,), (out,))
    return Graph((main,)), np.random.default_rng(1).normal(size=(16, 16)).astype(np.float32) / 4


def test_a_head_that_concatenates_boxes_and_scores():
    graph, data = _detector(1280.0)
    result = quantize(flatbuffer.write(graph), "full_int8", data, output_type="int8")
    (warning,) = (told for told in result.report.warnings if "CONCATENATION" in told)
    assert "concatenation_" in warning and "logistic_" in warning and "1 of 256 codes are left for" in warning
    assert str(result.report).count(f"Warning: {warning[:40]}") == 1
    graph, data = _detector(1.0)
    alike = quantize(flatbuffer.write(graph), "full_int8", data, output_type="int8")
    assert not any("CONCATENATION" in told for told in alike.report.warnings)
    assert list(few_codes(alike.quantized, {})) == []


def _beside_a_constant(share: float) -> Graph:
    """An output that is a dense layer of deviation 1 and 1/`share` added to it."""
    net = Net(1, 16)
    added = net.add(
        "ADD", (net.dense(0, 4), net.constant(np.array(1 / share, np.float32))), (1, 4),
        Options("AddOptions", {"fusedActivationFunction": 0, "potScaleInt16": True}),
    )  # fmt: skip
    main = Subgraph("main", tuple(net.tensors), tuple(net.ops), (0,), (added,))
    return Graph((main,))


@pytest.mark.parametrize("output_type", ["float32", "int8"])
def test_an_output_for_which_few_codes_are_left(output_type: str) -> None:
    """Temperatures in kelvin: the range is stretched to hold 0."""
    data = np.random.default_rng(1).normal(size=(40, 16)).astype(np.float32) / 4
    narrow = quantize(
        flatbuffer.write(_beside_a_constant(0.002)),
        "full_int8",
        data,
        output_type=output_type,
        prefer="size",
        transforms=None,
    )
    (warning,) = (told for told in narrow.report.warnings if "codes are left" in told)
    count = int(warning.partition(" of 256 codes")[0].rpartition(" ")[2])
    codes = {int(code) for row in data for code in _codes(narrow.content, row[None])}
    assert len(codes) <= count <= 1 + max(codes) - min(codes) + 1 and count < 8  # and a step that kernels may be off
    wide = quantize(
        flatbuffer.write(_beside_a_constant(1.0)), "full_int8", data, output_type=output_type, transforms=None
    )
    assert not any("codes are left" in told for told in wide.report.warnings)


def _codes(content: bytes, row: np.ndarray) -> np.ndarray:
    """The codes of the output of the file, before a DEQUANTIZE where it has one."""
    graph = flatbuffer.read(content)
    last = graph.main.ops[-1]
    output = last.inputs[0] if last.code == "DEQUANTIZE" else last.outputs[0]
    main = replace(graph.main, outputs=(output,))
    (codes,) = Runner(flatbuffer.write(replace(graph, subgraphs=(main,), signatures=()))).run([row])
    assert codes.dtype == np.int8
    return codes.reshape(-1)
