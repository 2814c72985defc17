"""Outlier channels of a norm: int8 loses them, and each transform brings back what they cost."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import tfq_fine as tfq
from support.norm_nets import block, decoder_block
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Graph
from tfq_converters.runtime.runner import Runner
from tfq_fine.api import Result
from tfq_fine.cli import arguments
from tfq_fine.cli.quantize import _transforms
from tfq_fine.numerics.errors import ErrorSums
from tfq_fine.report import TransformRow
from tfq_fine.transforms import Smoothing

OUTLIER = 100.0


def data(count: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 7, 33)).astype(np.float32)


def quantized(graph: Graph, recipe: str | tfq.Recipe, *transforms: str) -> Result:
    return tfq.quantize(write(graph), recipe, data(), transforms=transforms, quality="fast", prefer="size")


def sqnr(result: Result, graph: Graph) -> float:
    """Of a file against the graph without outliers, which computes the same."""
    files = Runner(write(graph)), Runner(result.content)
    sums = ErrorSums()
    for sample in data(40, seed=1):
        (expected,), (found,) = (file.run([sample[None]]) for file in files)
        sums += ErrorSums.of(expected, found)
    return sums.sqnr_db


def row(result: Result, name: str) -> TransformRow:
    return next(row for row in result.report.transforms if row.name == name)


def test_outliers_change_no_function() -> None:
    """What the other tests rest on: the float file with outliers computes what the one without does."""
    plain, spoiled = (Runner(write(block(size))).run([data(1)])[0] for size in (1.0, OUTLIER))
    assert np.abs(plain - spoiled).max() <= 1e-4 * np.abs(plain).max()  # sums of terms that round differently


@pytest.mark.parametrize(("name", "lost"), [("smooth_quant", 2), ("log_equalization", 5)])
def test_outliers_of_a_norm_cost_little(name: str, lost: float) -> None:
    """The logarithm leaves channels of 350 at 8.5 and the others at 2.4, which takes more than a bit."""
    graph = block(OUTLIER)
    without_outliers = sqnr(quantized(block(), "full_int8"), block())
    before, after = (quantized(graph, "full_int8", *names) for names in ((), (name,)))
    assert row(after, name).applied
    assert sqnr(before, block()) < without_outliers - 10
    assert sqnr(after, block()) > without_outliers - lost


@pytest.mark.parametrize("name", ["smooth_quant", "log_equalization"])
def test_outliers_of_a_decoder_cost_little(name: str) -> None:
    """Norms before attention, before an MLP and before the logits have channels 100 times as large as the others."""
    graph, even = decoder_block(OUTLIER), decoder_block()
    without_outliers = sqnr(quantized(even, "full_int8"), even)
    before, after = (sqnr(quantized(graph, "full_int8", *names), even) for names in ((), (name,)))
    assert before < without_outliers - 12
    assert after > without_outliers - 3


def test_smooth_quant_is_tried_by_default() -> None:
    result = tfq.quantize(write(block(OUTLIER)), "full_int8", data(), prefer="size")
    assert row(result, "smooth_quant").applied
    assert {"awq", "shift", "log_equalization"}.isdisjoint(row.name for row in result.report.transforms)


@pytest.mark.parametrize("name", ["smooth_quant", "log_equalization"])
@pytest.mark.parametrize("make", [block, decoder_block])
def test_a_norm_without_outliers_is_not_looked_at(
    name: str, make: Callable[[], Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are the values of attention to it."""
    monkeypatch.setattr("tfq_fine.variants.trial.Trial.channels", None)  # calling it would fail
    found = row(quantized(make(), "full_int8", name), name)
    assert not found.applied
    assert found.text == "no activation with outliers whose channels can be scaled exactly"


def test_a_large_range_is_rounded_token_by_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """FPTQ's thresholds alone: beyond v1 = 150, the readers of the norm become dynamic within a static file."""
    monkeypatch.setattr("tfq_fine.variants.log_equalization.choose_smoothing", lambda *_: Smoothing((), 0.0, 0.0))
    result = quantized(block(OUTLIER), "full_int8", "log_equalization")
    assert sqnr(result, block()) > sqnr(quantized(block(OUTLIER), "full_int8"), block()) + 3  # each token has outliers
    assert row(result, "log_equalization").text.startswith("0 activations equalized and 1 dynamic by range")
    modes = [found.mode for found in result.report.rows if "fully_connected" in found.label]
    assert modes == ["integer", "dynamic", "dynamic", "dynamic", "integer"]


def test_a_middle_range_is_equalized() -> None:
    result = quantized(block(20.0), "full_int8", "log_equalization")
    assert row(result, "log_equalization").text.startswith("1 activations equalized and 0 dynamic by range")
    assert {found.mode for found in result.report.rows if "fully_connected" in found.label} == {"integer"}


def test_shifts_bring_channels_to_one_middle() -> None:
    """Channels of a spread of 1 around 60 and -60 get a range of their spread."""
    graph = block(beta=np.resize([60.0, -60.0, 0.0], 33))
    before, after = (quantized(graph, "full_int8", *names) for names in ((), ("shift",)))
    assert row(after, "shift").applied
    assert sqnr(after, graph) > sqnr(before, graph) + 10


@pytest.mark.parametrize("recipe", ["weight_only_int4", "full_w4a8"])
def test_awq_keeps_weights_that_meet_large_inputs(recipe: str) -> None:
    graph = block(20.0)
    before, after = (quantized(graph, recipe, *names) for names in ((), ("awq",)))
    assert row(after, "awq").applied
    assert sqnr(after, block()) > sqnr(before, block()) + 3


def test_awq_leaves_weights_of_8_bits() -> None:
    text = row(quantized(block(20.0), "full_int8", "awq"), "awq").text
    assert text.startswith("no weights of less than 8 bits")


def test_fptq_equalizes() -> None:
    graph = block(OUTLIER)
    result = tfq.quantize(write(graph), "fptq", data(), quality="fast")
    plain = tfq.quantize(write(graph), "full_w4a8_block32", data(), transforms=None, quality="fast")
    assert row(result, "log_equalization").applied
    assert sqnr(result, block()) > sqnr(plain, block()) + 5


def test_a_recipe_names_transforms_that_exist() -> None:
    recipe = replace(tfq.RECIPES["full_int8"], transforms=("smoothing",))
    with pytest.raises(tfq.TfqError, match="unknown transforms smoothing; known: fold_batch_norm, shift, cross_layer"):
        tfq.quantize(write(block()), recipe, data())
    assert tfq.Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    ("recipe", "flags", "expected"),
    [
        ("fptq", [], {"smooth_quant", "log_equalization"}),
        ("fptq", ["--no-log-equalization"], {"smooth_quant"}),
        ("full_int8", [], {"smooth_quant"}),
        ("full_int8", ["--awq", "--no-smooth-quant"], {"awq"}),
    ],
)
def test_the_command_tries_what_the_recipe_names(recipe: str, flags: list[str], expected: set[str]) -> None:
    parsed = arguments.parse(["tfq-fine", "quantize", "m", "--recipe", recipe, "--output", "o", *flags])
    tried = _transforms(parsed, tfq.RECIPES[recipe])
    assert {"shift", "smooth_quant", "log_equalization", "awq"} & {*tried} == expected
