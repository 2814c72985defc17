"""Files in the hands of programs that are not LiteRT: they compute the same, or the library refuses to write for them.

Each runs in its own way (`consumers/`), and is skipped where it is not installed. Inputs and outputs are codes, so that
a difference of 1 is one step of the output.
"""

import signal
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import tfq_fine as tfq
from support.consumers import litert, netron, openvino, tosa, vela
from support.consumers.cnn import FEATURES, IMAGE, LAYERS, network, samples
from support.consumers.installed import need
from support.fused_lstms import content as fused_lstm_content
from support.fused_lstms import sequences
from tfq_converters.errors import TfqError
from tfq_converters.flatbuffer.reading import read
from tfq_converters.flatbuffer.writing import write
from tfq_converters.kernels.consumers import by_rules
from tfq_converters.kernels.runtimes import RUNTIMES
from tfq_converters.kernels.table import Cell, Status
from tfq_converters.probe.build import job
from tfq_converters.probe.cases import CELLS
from tfq_converters.probe.operands import operands
from tfq_converters.probe.reference import answer
from tfq_converters.probe.runtimes import opener
from tfq_converters.probe.verdict import judge
from tfq_converters.runtime.runner import Kernels
from tfq_fine.api import Result
from tfq_fine.request.granularity import Blocks, Granularity, PerChannel, PerTensor
from tfq_fine.request.presets import RECIPES
from tfq_fine.request.recipe import Recipe
from tfq_fine.request.specs import Mode, OpSpec, WeightSpec

TESTED = 8  # samples
TYPES = {"full_int8": "int8", "full_int16x8": "int16", "full_w4a8": "int8"}  # of inputs and outputs
ONE_STEP = 1  # each rounds a result in its own way: once or twice, half up or away from zero
PASSED_ON = 2  # the last layer's step, and one that the layers before it left (one or two of 48 values, any samples)
# LiteRT and TOSA rescale int16 results by multipliers of 15 bits, in their own ways, and OpenVINO computes in float32:
# at the end of the range that is a step in each layer
INT16_STEPS = len(LAYERS)
FLOAT = 1e-5  # of the largest value: float32 sums of some hundred terms in any order


@cache
def quantized(
    recipe: str,
    layers: tuple[str, ...] = LAYERS,
    runtimes: str = "litert",
    prefer: str = "size",
) -> Result:
    shape = FEATURES if layers == ("dense",) else IMAGE
    border = TYPES.get(recipe, "float32")
    return tfq.quantize(
        write(network(layers, shape)), recipe, samples(32, shape), runtimes=runtimes, prefer=prefer,
        input_type=border, output_type=border,
    )  # fmt: skip


def inputs(result: Result) -> list[np.ndarray]:
    return litert.encoded(result, samples(TESTED, result.graph.main.tensors[result.graph.main.inputs[0]].shape, seed=7))


def gap(result: Result, found: np.ndarray) -> float:
    """The largest distance to LiteRT, on the kernels of it that are nearest: they differ by 3 steps among themselves.

    The answers have to spread over many codes to mean much.
    """
    answers = [litert.outputs(result.content, inputs(result), kernels) for kernels in get_args(Kernels)]
    assert all(found.shape == answer.shape and len(np.unique(answer)) > TESTED for answer in answers)
    return min(float(np.abs(found - answer).max()) for answer in answers)


# ------------------------------------------------------------------------------------------------ TFLite Micro


def micro(result: Result) -> np.ndarray:
    need("tflite_micro")
    opened, found = opener("tflite-micro")(result.content), []
    for one in inputs(result):
        opened.feed([one])
        opened.invoke()
        found.append(opened.output())
    return np.concatenate(found).astype(np.float64)


@pytest.mark.parametrize("prefer", ["speed", "size"])
@pytest.mark.parametrize("recipe", TYPES)
def test_tflite_micro_computes_what_litert_does(recipe, prefer):
    result = quantized(recipe, runtimes="tflite-micro", prefer=prefer)
    assert gap(result, micro(result)) <= ONE_STEP


def test_a_file_for_tflite_micro_has_one_scale_where_it_reads_one():
    """int4 matrices, of a 1x1 convolution too; convolutions, whose kernels read all scales, keep theirs."""
    main = quantized("full_w4a8", runtimes="tflite-micro").graph.main
    weights = {op.code: main.tensors[op.inputs[1]] for op in main.ops if op.code != "MEAN"}
    scales = {code: (tensor.dtype, tensor.quantization.scale.size) for code, tensor in weights.items()}
    assert scales == {"CONV_2D": ("int4", 9), "DEPTHWISE_CONV_2D": ("int4", 9), "FULLY_CONNECTED": ("int4", 1)}
    weights_only = tfq.quantize(
        write(network()), "weight_only_int8", runtimes="tflite-micro", on_unsupported="fallback"
    )
    main = weights_only.graph.main
    read_by = [main.tensors[op.inputs[0]] for op in main.ops if op.code == "DEQUANTIZE"]
    assert [tensor.quantization.scale.size for tensor in read_by] == [1] * 4


@cache
def fused_lstm(runtimes: str) -> Result:
    """Of tf_keras, whose states are variables."""
    return tfq.quantize(
        fused_lstm_content(), "full_int8", sequences(20), runtimes=runtimes, prefer="size",
        input_type="int8", output_type="int8",
    )  # fmt: skip


def test_tflite_micro_computes_a_fused_lstm_as_litert_does():
    need("tflite_micro")
    result = fused_lstm("tflite-micro")
    for one in litert.encoded(result, sequences(TESTED)):  # each from the beginning
        opened = opener("tflite-micro")(result.content)
        opened.feed([one])
        opened.invoke()
        assert np.abs(opened.output().astype(int) - litert.outputs(result.content, [one])).max() <= ONE_STEP


def test_tflite_micro_reads_one_scale_of_many():
    """Why per-channel DEQUANTIZE is never written for it. When this fails, its kernels know more: probe again."""
    result = quantized("weight_only_int8")
    assert gap(result, micro(result)) > 0.1 * np.abs(litert.outputs(result.content, inputs(result))).max()


def test_float16_is_refused_for_those_that_do_not_read_it():
    dense = write(network(("dense",), FEATURES))
    for runtime in ("tflite-micro", "ethos-u"):
        with pytest.raises(TfqError, match=rf"dense .*float16 weights are not read on {runtime}.*nearest: float"):
            tfq.quantize(dense, "float16", runtimes=runtime)
    plain = tfq.quantize(dense, "float16", runtimes="tflite-micro", on_unsupported="fallback")
    assert gap(plain, micro(plain)) < FLOAT


# ------------------------------------------------------------------------------------------------ OpenVINO

# recipe, layers, tolerance
OPENVINO = [
    ("full_int8", LAYERS, ONE_STEP),
    ("full_int16x8", LAYERS, INT16_STEPS),
    ("full_int16x8", ("conv",), ONE_STEP),
    ("full_w4a8", ("dense",), ONE_STEP),  # it cannot transpose the int4 kernel of a convolution
]


@pytest.mark.parametrize(("recipe", "layers", "tolerance"), OPENVINO)
def test_openvino_computes_what_litert_does(recipe, layers, tolerance, tmp_path):
    need("openvino")
    result = quantized(recipe, layers)
    assert gap(result, openvino.outputs(result.content, inputs(result), tmp_path)) <= tolerance


@pytest.mark.parametrize(("recipe", "layers"), [("weight_only_int8", LAYERS), ("float16", ("dense",))])
def test_openvino_reads_the_weights_that_litert_reads(recipe, layers, tmp_path):
    need("openvino")
    result = quantized(recipe, layers)
    assert any(op.code == "DEQUANTIZE" for op in result.graph.main.ops)
    largest = np.abs(litert.outputs(result.content, inputs(result))).max()
    assert gap(result, openvino.outputs(result.content, inputs(result), tmp_path)) < FLOAT * largest


@pytest.mark.parametrize("recipe", ["weight_only_int4", "full_w4a8", "weight_only_int2", "weight_only_int4_block32"])
def test_a_file_for_openvino_suits_it(recipe, tmp_path):
    """Presets of few bits take more where it refuses them. Not another mode, as prefer="size" would: OpenVINO does not
    round on the fly as LiteRT does."""
    need("openvino")
    result = quantized(recipe, runtimes="openvino", prefer="size" if recipe in TYPES else "speed")
    assert any("on openvino (refuses: " in decision.reason for decision in result.plan.values())
    largest = np.abs(litert.outputs(result.content, inputs(result))).max()
    tolerance = PASSED_ON if recipe in TYPES else FLOAT * largest
    assert gap(result, openvino.outputs(result.content, inputs(result), tmp_path)) <= tolerance


def on_openvino(cell: Cell, folder: Path) -> Status:
    """What it makes of a cell; it computes dynamic-range operators in float."""
    given, expected = job(cell), None
    if cell.mode == "dynamic":
        expected = answer(replace(cell, mode="weight_only"), CELLS[cell], operands(cell, CELLS[cell]))
    try:
        found = openvino.outputs(given.content, list(given.inputs), folder)
    except RuntimeError:
        return "refuses"
    return "wrong" if judge(found, expected or given.answer) else "correct"


def test_the_rules_of_openvino_hold_for_every_cell(tmp_path):
    need("openvino")
    rules = {c: by_rules(RUNTIMES["openvino"].rules, c.op, c.form, c.mode, c.bits, c.granularity).status for c in CELLS}
    known = {cell: status for cell, status in rules.items() if status != "absent" and cell.mode != "float"}
    assert len(known) > 150
    assert {cell: on_openvino(cell, tmp_path) for cell in known} == known


@pytest.mark.parametrize(("recipe", "why"), [("full_w4a8", "Transpose for i4/u4"), ("weight_only_int2", "type")])
def test_openvino_refuses_cleanly(recipe, why, tmp_path):
    need("openvino")
    with pytest.raises(RuntimeError, match=why):
        openvino.outputs(quantized(recipe).content, [], tmp_path)


# ------------------------------------------------------------------------------------------------ TOSA

# recipe, layers, tolerance
TOSA = [
    ("full_int8", LAYERS, ONE_STEP),
    ("full_int16x8", LAYERS, INT16_STEPS),
    ("full_w4a8", ("conv",), ONE_STEP),  # the reference model has no RESHAPE of int4, which the other layers start with
]


@pytest.mark.parametrize(("recipe", "layers", "tolerance"), TOSA)
def test_tosa_computes_what_litert_does(recipe, layers, tolerance, tmp_path):
    need("tosa_converter_for_tflite")
    result = quantized(recipe, layers)
    assert gap(result, tosa.outputs(result.content, inputs(result), tmp_path)) <= tolerance


def test_tosa_reads_the_weights_that_litert_reads(tmp_path):
    need("tosa_converter_for_tflite")
    result = quantized("weight_only_int8")
    largest = np.abs(litert.outputs(result.content, inputs(result))).max()
    assert gap(result, tosa.outputs(result.content, inputs(result), tmp_path)) < FLOAT * largest


@pytest.mark.parametrize("recipe", ["weight_only_int4", "full_w4a8"])
def test_a_file_for_tosa_suits_it(recipe, tmp_path):
    need("tosa_converter_for_tflite")
    result = quantized(recipe, runtimes="tosa", prefer="size" if recipe in TYPES else "speed")
    assert any("on tosa (refuses: " in decision.reason for decision in result.plan.values())
    largest = np.abs(litert.outputs(result.content, inputs(result))).max()
    tolerance = ONE_STEP if recipe in TYPES else FLOAT * largest
    assert gap(result, tosa.outputs(result.content, inputs(result), tmp_path)) <= tolerance


@pytest.mark.parametrize("recipe", ["full_w4a8", "weight_only_int4", "dynamic_int4"])
def test_tosa_converts_int4(recipe, tmp_path):
    """All of them; its reference model then runs the convolutions of integer files alone."""
    need("tosa_converter_for_tflite")
    assert tosa.converted(quantized(recipe).content, tmp_path).exists()


def test_tosa_refuses_int2_cleanly(tmp_path):
    need("tosa_converter_for_tflite")
    with pytest.raises(tosa.TosaRefusesError, match=r"tosa-converter-for-tflite: .*quant.uniform<i2"):
        tosa.converted(quantized("weight_only_int2").content, tmp_path)


# ------------------------------------------------------------------------------------------------ Vela


@pytest.mark.parametrize("npu", vela.NPUS)
@pytest.mark.parametrize("recipe", ["full_int8", "full_int16x8"])
def test_vela_puts_the_whole_file_on_the_npu(recipe, npu, tmp_path):
    need("ethosu")
    found = vela.compiled(quantized(recipe, runtimes="ethos-u", prefer="speed").content, npu, tmp_path)
    assert (found.exit_code, found.on_cpu) == (0, 0), found.said
    assert found.on_npu >= len(LAYERS)


@pytest.mark.parametrize("npu", vela.NPUS)
def test_vela_puts_a_fused_lstm_on_the_npu(npu, tmp_path):
    need("ethosu")
    found = vela.compiled(fused_lstm("ethos-u").content, npu, tmp_path)
    assert (found.exit_code, found.on_cpu) == (0, 0), found.said
    assert found.on_npu > 5  # steps, each of several operators


@pytest.mark.parametrize("recipe", ["weight_only_int8", "dynamic_int8", "full_w4a8"])
def test_what_is_refused_for_an_npu_is_of_no_use_to_it(recipe, tmp_path):
    """When this fails, Vela has learnt more, and `tfq_converters.kernels.consumers` should be told."""
    need("ethosu")
    found = vela.compiled(quantized(recipe).content, vela.NPUS[0], tmp_path)
    assert (found.exit_code, found.on_npu) == ((-signal.SIGFPE, -1) if recipe == "full_w4a8" else (0, 0))


REASONS = {2: "Vela knows no INT2", 4: "Vela dies with SIGFPE on any INT4 tensor", 8: "floats stay on the CPU"}


@pytest.mark.parametrize("recipe", sorted(set(RECIPES) - {"float16", "full_int8", "full_int16x8"}))
def test_for_an_npu_all_but_int8_and_int16x8_is_refused(recipe):
    """Before any data is read: all operators in one error, each with the reason and what would do instead."""
    with pytest.raises(TfqError) as raised:
        tfq.quantize(write(network()), recipe, data="no such file.npz", runtimes="ethos-u")
    first, *lines = str(raised.value).splitlines()
    assert first == "4 problems:"
    reason = REASONS[RECIPES[recipe].default.weights.bits]
    for layer, line in zip([layer for layer in LAYERS if layer != "pool"], lines, strict=True):
        assert line.startswith(f"  - {layer} (")
        assert reason in line or (layer == "depthwise" and "no inputs to group" in line)
        assert line.endswith("nearest: int8 per-channel in mode integer")


def test_a_fallback_for_an_npu_takes_int8(tmp_path):
    need("ethosu")
    result = tfq.quantize(
        write(network()), "full_w4a8", samples(32), runtimes="ethos-u", on_unsupported="fallback",
        prefer="size", input_type="int8", output_type="int8",
    )  # fmt: skip
    reasons = [decision.reason for decision in result.plan.values() if "Vela dies with SIGFPE" in decision.reason]
    assert len(reasons) == len(LAYERS) - 1
    found = vela.compiled(result.content, vela.NPUS[0], tmp_path)
    assert (found.exit_code, found.on_cpu) == (0, 0), found.said


def test_a_file_for_several_runtimes_suits_all_of_them():
    with pytest.raises(TfqError, match=r"on tflite-micro \(refuses.*; ethos-u \(crashes: Vela dies with SIGFPE"):
        tfq.quantize(write(network(("dense",), FEATURES)), "full_w4a8", "no.npz", runtimes=("tflite-micro", "ethos-u"))


def test_the_documentation_names_every_runtime_and_recipe():
    text = (Path(__file__).parents[3] / "docs" / "runtimes.md").read_text()
    assert [name for name in RUNTIMES if f"`{name}`" not in text] == []
    assert [name for name in RECIPES if name not in text] == []


# ------------------------------------------------------------------------------------------------ netron

ENCODINGS: dict[str, tuple[Mode, int, Granularity, tuple[str, ...]]] = {
    f"int{bits} {name}": ("weight_only", bits, granularity, LAYERS)
    for bits in (8, 4, 2)
    for name, granularity in (("per-tensor", PerTensor()), ("per-channel", PerChannel()))
} | {"int4 blocks": ("dynamic", 4, Blocks(32), ("dense",))}


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return netron.decoder(tmp_path_factory.mktemp("netron"))


@pytest.mark.parametrize("case", ENCODINGS)
def test_netron_reads_the_codes_and_scales_that_were_written(case, decoder):
    """The numbers of the plan, not those of our own reader: codes that do not fill their last byte are among them."""
    mode, bits, granularity, layers = ENCODINGS[case]
    shape = FEATURES if layers == ("dense",) else IMAGE
    recipe = Recipe(case, OpSpec(mode, WeightSpec(bits, granularity)))
    result = tfq.quantize(write(network(layers, shape)), recipe, prefer="size")
    found, graph = netron.constants(decoder, result.content), result.quantized.graph.main
    for (_, o), encoding in result.quantized.ops.items():
        weight, given = encoding.weights[1], found[f"{graph.ops[o].layer}/kernel"]
        assert given["type"] == f"int{bits}"
        np.testing.assert_array_equal(given["values"], weight.codes)
        np.testing.assert_array_equal(np.float32(given["scale"]).ravel(), weight.scale.ravel())
        assert not np.any(given["offset"])
        assert given["size"] == (32 if case == "int4 blocks" else 0)
        if case.endswith("per-channel"):
            assert weight.scale.shape[given["dimension"]] == weight.scale.size


@pytest.mark.parametrize("recipe", TYPES)
def test_netron_reads_every_constant_of_integer_files(recipe, decoder):
    result = quantized(recipe)
    found, main = netron.constants(decoder, result.content), read(result.content).main
    constants = {tensor.name: tensor for tensor in main.tensors if tensor.is_constant}
    assert set(found) == set(constants)
    for name, tensor in constants.items():
        assert found[name]["type"] == tensor.dtype
        np.testing.assert_array_equal(found[name]["values"], tensor.data)
