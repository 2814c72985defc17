"""In which form weights are held, and what is given where they cannot be: the documented rules, as literal tables."""

import numpy as np
import pytest

import tfq_fine
from support.nets import Net
from tfq_converters.errors import TfqError
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Graph
from tfq_converters.kernels.realizations import Fineness, form_of
from tfq_converters.quantized import Mode
from tfq_fine.planning import Decision, Policy, Prefer, make_plan
from tfq_fine.request.granularity import Blocks, PerTensor
from tfq_fine.request.presets import RECIPES
from tfq_fine.request.recipe import Recipe
from tfq_fine.request.specs import ActivationSpec, OpSpec, WeightSpec

RELU6 = 3


def dense(inputs: int = 64, channels: int = 8) -> Net:
    net = Net(1, inputs)
    net.dense(0, channels)
    return net


def conv(inputs: int = 64, channels: int = 8, window: int = 3, groups: int = 1) -> Net:
    net = Net(1, 5, 7, inputs)
    net.conv(0, channels, window=window, groups=groups)
    return net


def pointwise(inputs: int = 64, channels: int = 8, groups: int = 1) -> Net:
    return conv(inputs, channels, 1, groups)


def depthwise(inputs: int = 64) -> Net:
    net = Net(1, 5, 7, inputs)
    net.depthwise(0)
    return net


def transposed(inputs: int = 64) -> Net:
    net = Net(1, 5, 7, inputs)
    net.transposed(0, 8)
    return net


def product(inputs: int = 64) -> Net:
    net = Net(1, 5, inputs)
    net.product(0, 8)
    return net


def table(depth: int = 64) -> Net:
    net = Net(1, 5)
    net.gather(0, 13, depth)
    return net


NO_INPUTS = "DEPTHWISE_CONV_2D has no inputs to group: an output channel sees one input channel"
Row = tuple[Net, Mode, int, int, str | None, int, str]
# layer, mode, bits, block asked for -> form (None: there is none), block given (0: per-channel), what is said of it
BLOCKS: tuple[Row, ...] = (
    # the kernel's own sizes
    (dense(64), "dynamic", 4, 32, "blockwise", 32, ""),
    (dense(128), "dynamic", 4, 64, "blockwise", 64, ""),
    (dense(96), "dynamic", 4, 64, "blockwise", 32, "blocks of 32, the next smaller size that divides 96 inputs"),
    (dense(192), "dynamic", 4, 128, "blockwise", 64, "blocks of 64, the next smaller size that divides 192 inputs"),
    (dense(70), "dynamic", 4, 32, "blockwise", 32, "70 inputs are filled up with zeros to 96"),
    (dense(70), "dynamic", 4, 64, "blockwise", 64, "70 inputs are filled up with zeros to 128"),
    (pointwise(96), "dynamic", 4, 64, "blockwise", 32, "blocks of 32, the next smaller size that divides 96 inputs"),
    (pointwise(70), "dynamic", 4, 32, "blockwise", 32, "70 inputs are filled up with zeros to 96"),
    # as long as all inputs, or longer
    (dense(64), "dynamic", 4, 64, "native", 0, ""),
    (dense(70), "dynamic", 4, 128, "native", 0, ""),
    (pointwise(70), "dynamic", 4, 128, "pointwise", 0, ""),
    (dense(70), "weight_only", 2, 128, "dequantize", 0, ""),
    (conv(64), "integer", 4, 64, "native", 0, ""),
    # any other size, other bits, too few rows
    (dense(70), "dynamic", 4, 20, "split", 20, "the last block has 10 of 20 inputs"),
    (dense(64), "dynamic", 8, 32, "split", 32, ""),
    (dense(70), "dynamic", 2, 32, "split", 32, "the last block has 6 of 32 inputs"),
    (dense(64, channels=3), "dynamic", 4, 32, "split", 32, ""),
    (dense(64, channels=4), "dynamic", 4, 32, "blockwise", 32, ""),
    (pointwise(64, channels=3), "dynamic", 4, 32, "split", 32, ""),
    (pointwise(128, groups=2), "dynamic", 4, 32, "split", 32, ""),
    (dense(70), "integer", 4, 32, "split", 32, "the last block has 6 of 32 inputs"),
    (pointwise(70), "integer", 2, 32, "split", 32, "the last block has 6 of 32 inputs"),
    (conv(70), "dynamic", 4, 32, "split", 32, "the last block has 6 of 32 inputs"),
    (transposed(70), "integer", 8, 32, "split", 32, "the last block has 6 of 32 inputs"),
    (dense(65), "integer", 4, 1, None, 1, "blocks of 1 would split 65 inputs into 65 operators"),
    (dense(64), "integer", 4, 1, "split", 1, ""),
    # float arithmetic
    (
        dense(70),
        "weight_only",
        4,
        32,
        "dequantize",
        24,
        "blocks of 24 inputs, as many as of 32, which leave a last one to fill up",
    ),
    (
        conv(70),
        "weight_only",
        2,
        20,
        "dequantize",
        18,
        "blocks of 18 inputs, as many as of 20, which leave a last one to fill up",
    ),
    (
        product(70),
        "weight_only",
        4,
        32,
        "dequantize",
        24,
        "blocks of 24 inputs, as many as of 32, which leave a last one to fill up",
    ),
    # tables
    (table(64), "dynamic", 4, 32, "lookup", 32, ""),
    (table(70), "dynamic", 4, 32, "lookup", 32, "the last block has 6 of 32 inputs"),
    (table(70), "weight_only", 2, 20, "lookup", 20, "the last block has 10 of 20 inputs"),
    (table(70), "dynamic", 2, 128, "lookup", 0, ""),
    # nowhere
    (depthwise(), "dynamic", 8, 32, None, 0, NO_INPUTS),
    (depthwise(), "weight_only", 4, 32, None, 0, NO_INPUTS),
    (depthwise(), "integer", 8, 128, None, 0, NO_INPUTS),
    (product(), "dynamic", 8, 32, None, 0, "BATCH_MATMUL cannot be split into groups of inputs"),
)


def _name(row: Row) -> str:
    net, mode, bits, block, *_ = row
    return (
        f"{net.ops[0].code.lower()}{'x'.join(map(str, net.tensors[net.ops[0].inputs[1]].shape))}_{mode}{bits}_{block}"
    )


@pytest.mark.parametrize("row", BLOCKS, ids=_name)
def test_blocks(row: Row) -> None:
    net, mode, bits, block, form, given, note = row
    graph = net.graph(net.ops[0].outputs[0])
    activations = 8 if mode == "integer" else None
    answer = form_of(graph.main.ops[0], graph.main, Fineness(mode, bits, "blocks", block, activations))
    assert (answer.form, answer.note) == (form, note)
    if form is not None:
        assert answer.block == given


WHOLE: tuple[tuple[Net, Mode, int, str | None], ...] = (
    (pointwise(), "dynamic", 8, "native"),
    (pointwise(), "dynamic", 4, "pointwise"),
    (pointwise(), "dynamic", 2, "pointwise"),
    (pointwise(), "integer", 4, "pointwise"),
    (pointwise(), "integer", 2, "pointwise"),
    (pointwise(groups=2), "dynamic", 4, "native"),
    (pointwise(groups=2), "dynamic", 2, None),
    (conv(), "integer", 4, "native"),
    (conv(), "integer", 2, None),
    (conv(), "weight_only", 2, "dequantize"),
    (depthwise(), "integer", 4, "native"),
    (depthwise(), "dynamic", 4, None),
    (transposed(), "integer", 4, None),
    (transposed(), "weight_only", 4, "dequantize"),
    (product(), "integer", 8, None),
    (table(), "dynamic", 2, "lookup"),
)


@pytest.mark.parametrize(
    ("net", "mode", "bits", "form"),
    WHOLE,
    ids=[f"{n}_{row[0].ops[0].code.lower()}_{row[1]}{row[2]}" for n, row in enumerate(WHOLE)],
)
def test_per_channel(net: Net, mode: Mode, bits: int, form: str | None) -> None:
    graph = net.graph(net.ops[0].outputs[0])
    activations = 8 if mode == "integer" else None
    answer = form_of(graph.main.ops[0], graph.main, Fineness(mode, bits, "per_channel", 0, activations))
    assert answer.form == form
    assert bool(answer.note) == (form is None)


def test_a_table_with_zero_points_is_dequantized() -> None:
    graph = table(70).graph(2)
    for kind, block in (("per_tensor", 0), ("per_channel", 0), ("blocks", 32)):
        wanted = Fineness("weight_only", 4, kind, block, symmetric=False)
        assert form_of(graph.main.ops[0], graph.main, wanted).form == "dequantize"


# What presets give.


def mixed() -> Graph:
    """A 3x3 convolution, a 1x1 one, a depthwise one, and a dense layer."""
    net = Net(1, 9, 11, 5)
    x = net.conv(0, 41)
    x = net.conv(x, 37, fused=RELU6, window=1)
    x = net.depthwise(x)
    return net.graph(net.dense(net.mean(x), 7))


def decisions(recipe: str, prefer: Prefer) -> dict[str, Decision]:
    graph = mixed()
    plan = make_plan(graph, RECIPES[recipe].resolve(graph), Policy(prefer, flexible=True))
    names = {"conv_2d_a": "conv", "conv_2d_b": "pointwise", "depthwise_conv_2d_c": "depthwise"}
    named = {names.get(op.layer, "dense"): plan[key] for key, op in graph.ops() if op.code != "MEAN"}
    assert len(named) == 4
    return named


def slow(bits: int, code: str) -> str:
    return f"no fast kernel takes {bits}-bit {code} (prefer='size' takes them)"


def lacks(bits: int, code: str, mode: str) -> str:
    return f"{code} does not compute int{bits} per_channel weights in mode {mode}"


# recipe, preference, layer -> mode, bits, form, how its reason begins
PRESETS: tuple[tuple[str, Prefer, str, Mode, int, str, str], ...] = (
    ("full_w4a8", "speed", "conv", "integer", 8, "native", slow(4, "CONV_2D")),
    ("full_w4a8", "speed", "pointwise", "integer", 4, "pointwise", ""),
    ("full_w4a8", "speed", "depthwise", "integer", 8, "native", slow(4, "DEPTHWISE_CONV_2D")),
    ("full_w4a8", "speed", "dense", "integer", 4, "native", ""),
    ("full_w4a8", "size", "conv", "integer", 4, "native", ""),
    ("full_w4a8", "size", "pointwise", "integer", 4, "pointwise", ""),
    ("full_w4a8", "size", "depthwise", "integer", 4, "native", ""),
    ("full_w2a8", "speed", "conv", "integer", 8, "native", slow(2, "CONV_2D")),
    ("full_w2a8", "speed", "pointwise", "integer", 2, "pointwise", ""),
    ("full_w2a8", "speed", "dense", "integer", 2, "native", ""),
    ("full_w2a8", "size", "conv", "integer", 4, "native", lacks(2, "CONV_2D", "integer8")),
    ("full_w2a8", "size", "pointwise", "integer", 2, "pointwise", ""),
    ("full_w2a8", "size", "depthwise", "integer", 4, "native", lacks(2, "DEPTHWISE_CONV_2D", "integer8")),
    ("dynamic_int4", "speed", "conv", "dynamic", 8, "native", slow(4, "CONV_2D")),
    ("dynamic_int4", "speed", "pointwise", "dynamic", 4, "pointwise", ""),
    ("dynamic_int4", "speed", "depthwise", "dynamic", 8, "native", slow(4, "DEPTHWISE_CONV_2D")),
    ("dynamic_int4", "size", "conv", "dynamic", 4, "native", ""),
    ("dynamic_int4", "size", "pointwise", "dynamic", 4, "pointwise", ""),
    ("dynamic_int4", "size", "depthwise", "weight_only", 4, "dequantize", lacks(4, "DEPTHWISE_CONV_2D", "dynamic")),
)


@pytest.mark.parametrize("row", PRESETS, ids=lambda row: "_".join(row[:3]))
def test_presets(row: tuple[str, Prefer, str, Mode, int, str, str]) -> None:
    recipe, prefer, layer, mode, bits, form, reason = row
    found = decisions(recipe, prefer)[layer]
    assert found.spec is not None and found.spec.weights is not None
    assert (found.spec.mode, found.spec.weights.bits, found.form) == (mode, bits, form)
    assert found.reason.startswith(reason) if reason else not found.reason


@pytest.mark.parametrize(
    ("prefer", "flexible", "channels", "mode"),
    [
        ("size", True, 37, "weight_only"),  # 36 scales and zero points of 12 bytes saved for one DEQUANTIZE
        ("size", True, 7, "dynamic"),
        ("size", False, 37, "dynamic"),
        ("speed", True, 37, "dynamic"),  # `placement` decides there
    ],
)
def test_one_scale_is_not_repeated_where_size_counts(prefer: Prefer, flexible: bool, channels: int, mode: Mode) -> None:
    """The dynamic-range DEPTHWISE_CONV_2D wants the one scale of a tensor once for each channel."""
    graph = depthwise(channels).graph(1)
    recipe = Recipe("per-tensor", OpSpec("dynamic", WeightSpec(8, PerTensor())))
    (decision,) = make_plan(graph, recipe.resolve(graph), Policy(prefer, flexible)).values()
    assert decision.spec is not None and decision.spec.weights == WeightSpec(8, PerTensor())
    assert (decision.spec.mode, decision.repeated) == (mode, mode == "dynamic")
    assert ("once for each channel" in decision.reason) == (mode == "weight_only")


@pytest.mark.parametrize(
    ("prefer", "weights", "reason"),
    [("speed", "int8 per-channel", slow(4, "CONV_2D")), ("size", "int4 per-channel", "")],
)
def test_the_report_says_why(prefer: Prefer, weights: str, reason: str) -> None:
    data = np.random.default_rng(0).normal(size=(8, 9, 11, 5)).astype(np.float32)
    result = tfq_fine.quantize(write(mixed()), "full_w4a8", data=data, prefer=prefer)
    row, pointwise, *_ = (row for row in result.report.rows if row.weights)
    assert (row.code, row.mode, row.weights, row.reason) == ("CONV_2D", "integer", weights, reason)
    assert (pointwise.weights, pointwise.form, pointwise.reason) == ("int4 per-channel", "pointwise", "")


REFUSED: tuple[tuple[OpSpec, tuple[str, ...]], ...] = (
    (
        OpSpec("integer", WeightSpec(2), ActivationSpec(8)),
        (
            "conv_2d_a (CONV_2D): " + lacks(2, "CONV_2D", "integer8"),
            "depthwise_conv_2d_c (DEPTHWISE_CONV_2D): " + lacks(2, "DEPTHWISE_CONV_2D", "integer8"),
        ),
    ),
    (OpSpec("dynamic", WeightSpec(4, Blocks(3))), ("depthwise_conv_2d_c (DEPTHWISE_CONV_2D): " + NO_INPUTS,)),
)


@pytest.mark.parametrize(("spec", "lines"), REFUSED, ids=["two_layers", "blocks"])
def test_a_rigid_recipe_is_refused_with_all_that_does_not_work(spec: OpSpec, lines: tuple[str, ...]) -> None:
    graph = mixed()
    with pytest.raises(TfqError) as error:
        make_plan(graph, Recipe("rigid", spec).resolve(graph))
    text = str(error.value).removeprefix(f"{len(lines)} problems:\n")
    found = [line.removeprefix("  - ") for line in text.splitlines()]
    assert len(found) == len(lines)
    for line, start in zip(found, lines, strict=True):
        assert line.startswith(start)
        assert "; nearest: " in line
