"""Factors of input groups, folded into what makes the inputs: the same function, and weights that fit their scales."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import tfq_fine
from support.emitted import File
from support.graphs import RELU
from support.nets import Net
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Graph, Options
from tfq_converters.runtime.runner import Runner
from tfq_fine.numerics import affine
from tfq_fine.request.granularity import Blocks, PerChannel, block_shape
from tfq_fine.request.recipe import Recipe
from tfq_fine.request.specs import ActivationSpec, OpSpec, WeightSpec
from tfq_fine.transforms.block_factors import factor_blocks
from tfq_fine.transforms.channel_scaling import ScalingPath, scaled, scaling_path

CHANNELS = 37  # of what is scaled
RELU6 = 3
IN_BLOCKS = OpSpec("integer", WeightSpec(4, Blocks(16)), ActivationSpec(8))


Path = tuple[Net, int]  # the net so far, and the tensor whose channels are scaled


def relu() -> Path:
    net = Net(2, 9)
    return net, net.simple("RELU", net.dense(0, CHANNELS))


def fused_relu() -> Path:
    net = Net(2, 9)
    return net, net.dense(0, CHANNELS, RELU, bias=False)


def leaky_relu() -> Path:
    net = Net(2, 9)
    x = net.dense(0, CHANNELS)
    return net, net.add("LEAKY_RELU", (x,), net.shape(x), Options("LeakyReluOptions", {"alpha": 0.1}))


def layer_norm() -> Path:
    """gamma is scaled, and beta."""
    net = Net(2, 3, CHANNELS)
    x = net.simple("TANH", 0)
    return net, net.with_constant("ADD", net.with_constant("MUL", x, net.random(CHANNELS)), net.random(CHANNELS))


def layer_norm_as_a_difference() -> Path:
    """beta - mean * gamma, with one value of beta for all channels."""
    net = Net(2, 3, CHANNELS)
    x = net.with_constant("MUL", net.simple("TANH", 0), net.random(1, 1, CHANNELS))
    return net, net.with_constant("SUB", x, net.random(1), first=True)


def max_pool() -> Path:
    net = Net(1, 6, 8, 5)
    return net, net.pool(net.conv(0, CHANNELS, RELU), "MAX_POOL_2D")


def average_pool_and_pad() -> Path:
    net = Net(1, 6, 8, 5)
    return net, net.pad(net.pool(net.conv(0, CHANNELS), "AVERAGE_POOL_2D"), (0, 0), (1, 2), (3, 0), (0, 0))


def depthwise() -> Path:
    net = Net(1, 6, 8, CHANNELS)
    return net, net.simple("RELU", net.depthwise(0))


def mean_of_pixels() -> Path:
    net = Net(1, 6, 8, 5)
    return net, net.mean(net.conv(0, CHANNELS, RELU))


def reshaped() -> Path:
    net = Net(2, 9)
    return net, net.reshape(net.dense(0, CHANNELS), 1, 2, 1, CHANNELS)


FOLDABLE: tuple[Callable[[], Path], ...] = (
    relu, fused_relu, leaky_relu, layer_norm, layer_norm_as_a_difference, max_pool, average_pool_and_pad, depthwise,
    mean_of_pixels, reshaped,
)  # fmt: skip


def flattened() -> Path:
    net = Net(1, 6, 8, 5)
    return net, net.reshape(net.conv(0, CHANNELS, RELU), 1, 48 * CHANNELS)


def test_flattened_channels_are_scaled_in_every_repeat() -> None:
    net, t = flattened()
    graph = net.graph(net.dense(t, 7))
    found = scaling_path(graph.main, t)
    assert isinstance(found, ScalingPath) and found.repeats == 48
    scale = np.exp(np.random.default_rng(2).normal(size=CHANNELS))
    (before,), (after,) = run(graph), run(scaled(graph, [(found, scale)]))
    np.testing.assert_allclose(after, before, atol=1e-5 * np.abs(before).max())
    assert not factor_blocks(graph, requested(graph)).notes


def test_a_depthwise_reader_takes_it_back_per_channel() -> None:
    net = Net(1, 6, 8, 5)
    t = net.conv(0, CHANNELS, RELU)
    graph = net.graph(net.depthwise(t), net.conv(t, 3))
    found = scaling_path(graph.main, t)
    assert isinstance(found, ScalingPath)
    scale = np.exp(np.random.default_rng(2).normal(size=CHANNELS))
    for before, after in zip(run(graph), run(scaled(graph, [(found, scale)])), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-5 * np.abs(before).max())


def read_by_two(path: Path) -> tuple[Graph, int]:
    """Two linear readers: both take the scaling back."""
    net, t = path
    first = net.conv(t, 11) if len(net.shape(t)) == 4 else net.dense(t, 11)
    return net.graph(first, net.dense(t, 7)), t


def run(graph: Graph) -> list[np.ndarray]:
    x = np.random.default_rng(1).normal(size=graph.main.tensors[0].shape).astype(np.float32)
    return Runner(write(graph), "reference").run([x])


@pytest.mark.parametrize("path", FOLDABLE, ids=lambda path: path.__name__)
def test_the_function_stays_what_it_was(path: Callable[[], Path]) -> None:
    graph, t = read_by_two(path())
    found = scaling_path(graph.main, t)
    assert isinstance(found, ScalingPath), found
    scale = np.exp(np.random.default_rng(2).normal(size=CHANNELS))
    for before, after in zip(run(graph), run(scaled(graph, [(found, scale)])), strict=True):
        # float32 sums of scaled numbers are rounded elsewhere
        np.testing.assert_allclose(after, before, atol=1e-5 * np.abs(before).max())


@pytest.mark.parametrize("path", FOLDABLE, ids=lambda path: path.__name__)
def test_the_channels_are_scaled(path: Callable[[], Path]) -> None:
    net, t = path()
    net.dense(t, 7)
    graph = net.graph(t + 4)  # of the dense layer: weight, bias, and what comes out
    found = scaling_path(graph.main, t)
    assert isinstance(found, ScalingPath), found
    scale = np.exp(np.random.default_rng(2).normal(size=CHANNELS))
    shown = [replace(g, subgraphs=(replace(g.main, outputs=(t,)),)) for g in (graph, scaled(graph, [(found, scale)]))]
    (before,), (after,) = map(run, shown)
    np.testing.assert_allclose(after, before * scale, rtol=1e-4, atol=1e-5 * np.abs(before).max())


def clipped() -> Path:
    net = Net(2, 9)
    return net, net.simple("RELU6", net.dense(0, CHANNELS))


def clipped_inside() -> Path:
    net = Net(2, 9)
    return net, net.dense(0, CHANNELS, RELU6)


def residual() -> Path:
    net = Net(2, CHANNELS)
    x = net.dense(0, CHANNELS)
    return net, net.sum(x, net.dense(x, CHANNELS))


def the_input() -> Path:
    return Net(2, CHANNELS), 0


def read_elsewhere() -> Path:
    """Before the ReLU."""
    net = Net(2, 9)
    x = net.dense(0, CHANNELS)
    net.simple("TANH", x)
    return net, net.simple("RELU", x)


def read_by_a_tanh() -> Path:
    net = Net(2, 9)
    x = net.dense(0, CHANNELS)
    net.simple("TANH", x)
    return net, x


def channels_of_zeros() -> Path:
    """PAD after the channels: there are more of them than were made."""
    net = Net(2, 9)
    return net, net.pad(net.dense(0, CHANNELS - 2), (0, 0), (1, 1))


def another_channel_order() -> Path:
    net = Net(1, 9, CHANNELS)
    x = net.simple("TANH", net.dense(0, 9))
    return net, net.reshape(x, 9, 9)


REFUSED: tuple[tuple[Callable[[], Path], str], ...] = (
    (clipped, "relu6_b (RELU6): a scaling of channels does not pass through it"),
    (clipped_inside, "fully_connected_a (FULLY_CONNECTED): its fused activation clips at a fixed value"),
    (residual, "add_c (ADD): a scaling of channels does not pass through it"),
    (the_input, "x is an input"),
    (read_elsewhere, "is read elsewhere too"),
    (read_by_a_tanh, "tanh_b (TANH) reads"),
    (channels_of_zeros, "pad_b (PAD): a scaling of channels does not pass through it"),
    (another_channel_order, "tanh_b (TANH): a scaling of channels does not pass through it"),
)


@pytest.mark.parametrize(("path", "reason"), REFUSED, ids=[path.__name__ for path, _ in REFUSED])
def test_what_would_change_the_function_is_refused(path: Callable[[], Path], reason: str) -> None:
    net, t = path()
    y = net.dense(t, 7)
    found = scaling_path(net.graph(y).main, t)
    assert isinstance(found, str)
    assert reason in found


def test_an_output_is_not_scaled() -> None:
    net, t = relu()
    assert scaling_path(net.graph(net.dense(t, 7), t).main, t) == f"{net.tensors[t].name} is an output"


def test_neither_is_what_an_output_is_made_of() -> None:
    net = Net(2, 9)
    x = net.dense(0, CHANNELS)
    t = net.simple("RELU", x)
    assert "read elsewhere" in str(scaling_path(net.graph(net.dense(t, 7), x).main, t))


def requested(graph: Graph, spec: OpSpec = IN_BLOCKS) -> dict[tuple[int, int], OpSpec | None]:
    return {key: spec for key, _ in graph.ops()}


@pytest.mark.parametrize("path", FOLDABLE, ids=lambda path: path.__name__)
def test_factored_weights_fit_per_channel_scales_better(path: Callable[[], Path]) -> None:
    graph, t = read_by_two(path())
    factored = factor_blocks(graph, requested(graph))
    found = scaling_path(graph.main, t)
    assert isinstance(found, ScalingPath)
    assert {o for _, o in factored.notes} == {*found.readers}
    for o in found.readers:
        before, after = (g.main.tensors[g.main.ops[o].inputs[1]].data for g in (graph, factored.graph))
        assert before is not None and after is not None
        inputs = before.ndim - 1
        factor = (before / after).reshape(-1, before.shape[inputs])  # of each group of inputs
        np.testing.assert_allclose(factor, np.broadcast_to(factor[:1], factor.shape), rtol=1e-5)
        block = block_shape(PerChannel(), before.shape, 0)
        plain = affine.encode_weight(before, block, affine.CodeFormat(4)).dequantize()
        better = affine.encode_weight(after, block, affine.CodeFormat(4)).dequantize()
        better = better * factor[0].astype(np.float32)
        assert np.square(better - before).sum() < np.square(plain - before).sum()


def test_the_function_of_a_factored_graph_stays_what_it_was() -> None:
    """Layers in a row: one weight is divided, and multiplied."""
    net = Net(3, 40)
    x = net.dense(net.dense(net.dense(0, CHANNELS, RELU), 41, RELU), 35, RELU)
    graph = net.graph(net.dense(x, 5))
    factored = factor_blocks(graph, requested(graph))
    assert len(factored.notes) == 3
    (before,), (after,) = run(graph), run(factored.graph)
    np.testing.assert_allclose(after, before, atol=1e-5 * np.abs(before).max())


def test_a_file_has_no_split_where_blocks_are_folded() -> None:
    """The first layer reads the input, whose factors nothing takes: it alone is split."""
    net = Net(1, 40)
    graph = net.graph(net.dense(net.dense(0, CHANNELS, RELU), 11))
    data = np.random.default_rng(0).normal(size=(16, 40)).astype(np.float32)
    result = tfq_fine.quantize(write(graph), Recipe("blocks", IN_BLOCKS), data=data)
    rows = {row.layer: row for row in result.report.rows if row.weights}
    first, second = rows.values()
    assert (first.form, first.weights, first.reason) == (
        "split",
        "int4 blocks of 16",
        "the factors of its blocks cannot be folded: x is an input; the last block has 8 of 16 inputs",
    )
    assert (second.form, second.weights) == ("native", "int4 per-channel")
    numbers = re.fullmatch(
        r"blocks of 16 as per-channel scales, their factors folded into .*: "
        r"weights (\S+) dB \(blocks (\S+) dB, per-channel (\S+) dB\)",
        second.reason,
    )
    assert numbers is not None, second.reason
    found, blocks, plain = map(float, numbers.groups())
    assert plain < found <= blocks
    file = File(result.content)
    last = file.behind(file.outputs[0])[-2:]
    assert [op.code for op in last] == ["FULLY_CONNECTED", "DEQUANTIZE"]
    assert sum(op.code == "FULLY_CONNECTED" for op in file.ops) == 4  # three parts of the first, and the second
