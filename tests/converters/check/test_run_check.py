"""A file that computes something else than its numbers say is never handed over."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from support.graphs import images, small_cnn
from support.sabotage import one_code_off, quantized, sabotaged
from tfq_converters import writer
from tfq_converters.check.tolerance import integer_difference
from tfq_converters.errors import TfqError
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Graph, Op, Subgraph, Tensor
from tfq_converters.quantized import ActivationEncoding
from tfq_converters.realize.realized import realize
from tfq_converters.runtime import child_runs as module
from tfq_converters.runtime.runner import Runner
from tfq_fine.api import quantize as quantized_model
from tfq_fine.request.presets import RECIPES


def wrong_axis(tensor: Tensor) -> Tensor:
    """Scales rolled by one channel: what a wrong quantized dimension does."""
    assert tensor.quantization is not None
    scale = np.roll(tensor.quantization.scale * np.linspace(1, 2, len(tensor.quantization.scale), dtype=np.float32), 1)
    return replace(tensor, quantization=replace(tensor.quantization, scale=scale))


@pytest.mark.parametrize("recipe", RECIPES)
def test_good_files_pass(recipe: str) -> None:
    written = writer.write(quantized(recipe), [(images(1),)])
    assert set(written.checked.sqnr) == {3, 6, 8, 11, 12}
    least = {"8": 20, "4": 5, "2": -3}  # dB for a small random network with weights of so many bits
    bits = next((bits for bits in least if f"int{bits}" in recipe or f"w{bits}" in recipe), "8")
    assert min(written.checked.sqnr.values()) > least[bits]


@pytest.mark.parametrize("recipe", ["dynamic_int8", "weight_only_int8", "full_int8", "full_int16x8"])
@pytest.mark.parametrize("change", [wrong_axis, one_code_off])
def test_a_wrong_encoding_is_caught_and_the_first_op_named(
    recipe: str, change, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    numbers = quantized(recipe)
    monkeypatch.setattr(writer, "realize", lambda given: sabotaged(realize(given), change))
    with pytest.raises(
        TfqError, match=r"not handed over: on the \w+ kernels, conv \(CONV_2D\) computes something else"
    ):
        writer.write(numbers, [(images(1),)])


def test_a_dead_process_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    start = module.subprocess.Popen

    def crash(command, **options):  # type: ignore[no-untyped-def]
        return start([command[0], "-c", "import os; os.abort()"], **options)

    monkeypatch.setattr(module.subprocess, "Popen", crash)
    with pytest.raises(TfqError, match=r"on the default kernels ended the process \(signal 6\)"):
        writer.write(quantized("dynamic_int8"), [(images(1),)])


def test_a_channel_that_batch_norm_switched_off_keeps_its_bias() -> None:
    """Weights of 1e-12 under a bias of 5: an int32 bias at scale s_x * s_w would overflow."""
    scales = np.ones((7, 1, 1, 1), np.float32)
    scales[2:4] = 1e-12
    written = writer.write(quantized("full_int8", small_cnn(bias=5.0, weight_scale=scales)), [(images(1),)])
    assert written.checked.sqnr[3] > 30


def test_a_channel_of_zeros_runs() -> None:
    scales = np.ones((7, 1, 1, 1), np.float32)
    scales[1] = 0
    for recipe in RECIPES:
        writer.write(quantized(recipe, small_cnn(weight_scale=scales)), [(images(1),)])


def test_files_state_the_runtime_that_they_need() -> None:
    stated = {r: writer.write(quantized(r), [(images(1),)]).graph.metadata["min_runtime_version"] for r in RECIPES}
    assert all(len(entry) == 16 for entry in stated.values())
    assert stated["dynamic_int8"].rstrip(b"\0") == b"2.17.0"  # FULLY_CONNECTED version 12: per-channel hybrid
    assert stated["full_int8"].rstrip(b"\0") == b"2.3.0"


def test_where_the_simulation_has_a_pole_integers_saturate():
    """XNNPACK's float RSQRT of 0 is NaN, the integer kernel writes its largest code: no reason to refuse the file."""
    tensors = (Tensor("x", (1, 3, 7), "float32"), Tensor("y", (1, 3, 7), "float32"))
    graph = Graph((Subgraph("main", tensors, (Op("RSQRT", (0,), (1,)),), (0,), (1,)),))
    values = np.geomspace(1e-3, 100, 21, dtype=np.float32).reshape(1, 3, 7)  # the least ones are encoded as 0
    result = quantized_model(write(graph), "full_int8", data=values, output_type="int8", transforms=None)
    codes = Runner(result.content).run([values])[0]
    assert {row.code: row.mode for row in result.report.rows}["RSQRT"] == "integer"
    assert codes.flat[0] == 127 and codes.flat[-1] < 0


def test_a_number_may_come_as_a_row_of_one():
    """The int8 SUM and MEAN of everything give shape (1,) where the float ones give ()."""
    form = ActivationEncoding("int8", 0.5, 3)
    assert integer_difference(np.array([7], np.int8), np.array(2.0, np.float32), form, 0) == ""
    assert "4.0 steps" in integer_difference(np.array([3], np.int8), np.array(2.0, np.float32), form, 0)


def test_halves_between_two_codes_are_rounded_as_the_kernel_rounds_them() -> None:
    """Pixels of 1/128 over a range of 198/128: those of 33/128 and 99/128 lie between two of 255 codes.

    Weights of very unlike sizes under RELU6, as of a folded batch norm: one code more or less in the input moves some
    outputs by more than 2 % of their largest value.
    """
    rng = np.random.default_rng(0)
    pixels = rng.choice(np.array([-95, -33, 33, 99, 103]), (6, 12, 14, 3)).astype(np.float32) / 128
    inputs = keras.Input((12, 14, 3))
    model = keras.Model(inputs, layers.Conv2D(5, 3, strides=2, padding="same", activation="relu6")(inputs))
    weights = rng.normal(size=(3, 3, 3, 5)) * np.array([17.0, 0.5, 11.0, 2.0, 0.2])
    model.layers[1].set_weights([weights, np.zeros(5)])
    result = quantized_model(model, "dynamic_int4", pixels, quality="fast", prefer="size", transforms=None)
    assert [row.mode for row in result.report.rows] == ["dynamic"]
