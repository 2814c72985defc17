"""Batch norm after an activation, folded into what is around it: the same outputs from fewer operators."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.graphs import RELU
from support.nets import Net
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Graph, Options
from tfq_converters.runtime.runner import Runner
from tfq_fine.transforms import batch_norm as module
from tfq_fine.transforms.batch_norm import fold_batch_norm
from tfq_fine.transforms.channel_affine import channel_affines

CHANNELS = 7
RELU6 = 3
VALID = 1


def norm(net: Net, x: int, negative: bool = False, shift: bool = True) -> int:
    """MUL and ADD with constants per channel; the first scale is negative where asked."""
    channels = net.shape(x)[-1]
    scale = net.rng.uniform(0.3, 3.0, channels)
    scale[0] *= -1 if negative else 1
    y = net.with_constant("MUL", x, net.constant(scale.astype(np.float32)))
    return net.with_constant("ADD", y, net.random(channels)) if shift else y


def valid(net: Net, x: int) -> int:
    """The last convolution, without padding."""
    op = net.ops[-1]
    assert op.options is not None
    net.ops[-1] = replace(op, options=Options(op.options.kind, {**op.options.values, "padding": VALID}))
    batch, height, width, channels = net.shape(x)
    net.tensors[x] = replace(net.tensors[x], shape=(batch, height - 2, width - 2, channels))
    return x


def run(graph: Graph) -> list[np.ndarray]:
    x = np.random.default_rng(1).normal(size=graph.main.tensors[0].shape).astype(np.float32)
    return Runner(write(graph), "reference").run([x])


def assert_same(before: Graph, after: Graph) -> None:
    for x, y in zip(run(before), run(after), strict=True):
        # float32 sums of scaled numbers are rounded elsewhere
        np.testing.assert_allclose(y, x, atol=1e-5 * np.abs(x).max())


def codes(graph: Graph) -> list[str]:
    return [op.code for op in graph.main.ops]


def images() -> Net:
    return Net(1, 6, 9, 5)


def relu_then_padded_conv() -> tuple[Graph, list[str]]:
    net = images()
    y = norm(net, net.conv(0, CHANNELS, RELU), negative=True)
    return net.graph(net.conv(y, 3)), ["CONV_2D", "ADD", "CONV_2D"]


def relu_then_valid_conv() -> tuple[Graph, list[str]]:
    net = images()
    y = norm(net, net.conv(0, CHANNELS, RELU), negative=True)
    return net.graph(valid(net, net.conv(y, 3))), ["CONV_2D", "CONV_2D"]


def relu_then_pointwise() -> tuple[Graph, list[str]]:
    net = images()
    y = norm(net, net.conv(0, CHANNELS, RELU))
    return net.graph(net.conv(y, 3, window=1)), ["CONV_2D", "CONV_2D"]


def groups() -> tuple[Graph, list[str]]:
    net = images()
    y = norm(net, net.simple("TANH", net.conv(0, 6)), negative=True)
    return net.graph(net.conv(y, 4, window=1, groups=2)), ["CONV_2D", "TANH", "CONV_2D"]


def pooled_and_flattened() -> tuple[Graph, list[str]]:
    net = images()
    y = net.pool(norm(net, net.conv(0, CHANNELS, RELU)), "MAX_POOL_2D")
    flat = net.reshape(y, 1, 3 * 4 * CHANNELS)
    return net.graph(net.dense(flat, 11)), ["CONV_2D", "MAX_POOL_2D", "RESHAPE", "FULLY_CONNECTED"]


def averaged() -> tuple[Graph, list[str]]:
    net = images()
    y = net.mean(norm(net, net.conv(0, CHANNELS, RELU), negative=True))
    return net.graph(net.dense(y, 11, bias=False)), ["CONV_2D", "MEAN", "FULLY_CONNECTED"]


def two_readers() -> tuple[Graph, list[str]]:
    net = Net(3, 5)
    y = norm(net, net.dense(0, CHANNELS, RELU))
    return net.graph(net.dense(y, 3), net.dense(y, 11)), ["FULLY_CONNECTED"] * 3


def forward_alone() -> tuple[Graph, list[str]]:
    """Nothing scales the channels of a TANH."""
    net = Net(3, CHANNELS)
    return net.graph(net.dense(norm(net, net.simple("TANH", 0), negative=True), 3)), ["TANH", "FULLY_CONNECTED"]


def forward_alone_padded() -> tuple[Graph, list[str]]:
    net = images()
    y = norm(net, net.simple("TANH", net.conv(0, CHANNELS)), negative=True)
    return net.graph(net.conv(y, 3)), ["CONV_2D", "TANH", "ADD", "CONV_2D"]


def depthwise_reader() -> tuple[Graph, list[str]]:
    net = images()
    return net.graph(net.depthwise(norm(net, net.conv(0, CHANNELS, RELU)))), ["CONV_2D", "ADD", "DEPTHWISE_CONV_2D"]


def depthwise_maker() -> tuple[Graph, list[str]]:
    net = images()
    y = norm(net, net.simple("RELU", net.depthwise(0)))
    return net.graph(net.conv(y, 3, window=1)), ["DEPTHWISE_CONV_2D", "RELU", "CONV_2D"]


def transposed() -> tuple[Graph, list[str]]:
    net = images()
    y = norm(net, net.conv(0, CHANNELS, RELU))
    return net.graph(net.transposed(y, 3)), ["CONV_2D", "ADD", "TRANSPOSE_CONV"]


def backward() -> tuple[Graph, list[str]]:
    net = images()
    y = norm(net, net.conv(0, CHANNELS), negative=True)
    return net.graph(net.simple("TANH", y)), ["CONV_2D", "TANH"]


def backward_to_the_output() -> tuple[Graph, list[str]]:
    net = Net(3, 5)
    return net.graph(norm(net, net.dense(0, CHANNELS, bias=False), negative=True)), ["FULLY_CONNECTED"]


def backward_reshaped() -> tuple[Graph, list[str]]:
    """How dense layers on sequences come out of the converter."""
    net = Net(6, 5)
    y = net.reshape(net.dense(0, CHANNELS, bias=False), 2, 3, CHANNELS)
    return net.graph(net.simple("TANH", net.with_constant("ADD", y, net.random(CHANNELS)))), [
        *("FULLY_CONNECTED", "RESHAPE", "TANH")
    ]


def residual() -> tuple[Graph, list[str]]:
    """The sum takes no scale, but ReLU does."""
    net = images()
    y = norm(net, net.conv(0, 5, RELU))
    return net.graph(net.sum(0, y)), ["CONV_2D", "ADD", "ADD"]


def subtracted() -> tuple[Graph, list[str]]:
    net = Net(3, 5)
    y = net.with_constant("SUB", net.dense(0, CHANNELS, RELU), net.random(CHANNELS), first=True)
    return net.graph(net.dense(y, 3)), ["FULLY_CONNECTED"] * 2


FOLDED: tuple[Callable[[], tuple[Graph, list[str]]], ...] = (
    relu_then_padded_conv, relu_then_valid_conv, relu_then_pointwise, groups, pooled_and_flattened, averaged,
    two_readers, forward_alone, forward_alone_padded, depthwise_reader, depthwise_maker, transposed, backward,
    backward_to_the_output, backward_reshaped, residual, subtracted,
)  # fmt: skip


@pytest.mark.parametrize("made", FOLDED, ids=lambda made: made.__name__)
def test_the_outputs_stay_what_they_were(made: Callable[[], tuple[Graph, list[str]]]) -> None:
    graph, left = made()
    found = fold_batch_norm(graph)
    assert len(found.folded) == 1
    assert codes(found.rewritten.graph) == left
    assert_same(graph, found.rewritten.graph)
    origin = found.rewritten.origin
    assert [graph.main.ops[o].layer for o in origin] == [op.layer for op in found.rewritten.graph.main.ops]


def negative_pooled() -> Graph:
    net = images()
    y = norm(net, net.simple("TANH", net.conv(0, CHANNELS)), negative=True)
    return net.graph(net.dense(net.reshape(net.pool(y, "MAX_POOL_2D"), 1, 84), 3))


def shift_alone_padded() -> Graph:
    net = images()
    return net.graph(net.conv(net.with_constant("ADD", net.conv(0, CHANNELS, RELU), net.random(CHANNELS)), 3))


def scale_near_0() -> Graph:
    """shift / scale would be a million."""
    net = images()
    x = net.simple("TANH", net.conv(0, CHANNELS))
    scale = np.linspace(1e-6, 1, CHANNELS).astype(np.float32)
    y = net.with_constant("ADD", net.with_constant("MUL", x, net.constant(scale)), net.random(CHANNELS))
    return net.graph(net.conv(y, 3))


def fused_behind() -> Graph:
    net = Net(3, 5)
    y = norm(net, net.dense(0, CHANNELS, RELU), shift=False)
    net.ops[-1] = replace(net.ops[-1], options=Options("MulOptions", {"fusedActivationFunction": RELU}))
    return net.graph(net.dense(y, 3))


def an_output_too() -> Graph:
    net = Net(3, CHANNELS)
    y = norm(net, net.simple("TANH", 0))
    return net.graph(net.dense(y, 3), y)


def read_by_a_tanh() -> Graph:
    net = Net(3, CHANNELS)
    return net.graph(net.simple("TANH", norm(net, net.simple("TANH", 0))))


def clipped() -> Graph:
    """ReLU6 scales nothing, and the sum takes nothing."""
    net = images()
    return net.graph(net.sum(0, norm(net, net.conv(0, 5, RELU6))))


KEPT: tuple[tuple[Callable[[], Graph], str], ...] = (
    (negative_pooled, "the largest of several values is another one"),
    (shift_alone_padded, "the zeros next to it are not shifted"),
    (scale_near_0, "channels with a scale near 0 would grow beyond all"),
    (an_output_too, "is an output"),
    (read_by_a_tanh, "(TANH) reads"),
    (clipped, "its fused activation clips at a fixed value"),
)


@pytest.mark.parametrize(("made", "reason"), KEPT, ids=[made.__name__ for made, _ in KEPT])
def test_what_would_not_be_exact_is_left(made: Callable[[], Graph], reason: str) -> None:
    graph = made()
    found = fold_batch_norm(graph)
    assert found.rewritten.graph is graph
    assert not found.folded
    assert reason in found.kept[0]


def test_what_is_clamped_is_no_batch_norm() -> None:
    assert not list(channel_affines(fused_behind().main))


def test_layers_in_a_row() -> None:
    """Each convolution is a reader and a maker."""
    net = images()
    x = 0
    for channels in (7, 11, 3):
        x = norm(net, net.conv(x, channels, RELU), negative=channels == 11)
    graph = net.graph(net.dense(net.mean(x), 5))
    found = fold_batch_norm(graph)
    assert codes(found.rewritten.graph) == ["CONV_2D", "ADD", "CONV_2D", "ADD", "CONV_2D", "MEAN", "FULLY_CONNECTED"]
    assert_same(graph, found.rewritten.graph)


OPERATORS = st.sampled_from(["conv", "pointwise", "depthwise", "valid", "relu", "tanh", "max", "average", "pad"])


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(OPERATORS, min_size=1, max_size=5), negative=st.booleans(), seed=st.integers(0, 9))
def test_whatever_is_around_it(steps: Sequence[str], negative: bool, seed: int) -> None:
    """Batch norm after every operator of a random net."""
    net = Net(1, 23, 26, 3)
    net.rng = np.random.default_rng(seed)
    x = net.conv(0, 5, RELU)
    for index, step in enumerate(steps):
        x = norm(net, x, negative=negative and index % 2 == 0)
        x = _step(net, x, step)
    graph = net.graph(net.dense(net.mean(x), 2))
    assert_same(graph, fold_batch_norm(graph).rewritten.graph)


def _step(net: Net, x: int, step: str) -> int:
    if step in ("max", "average"):
        height, width = net.shape(x)[1:3]
        return net.pool(x, f"{step.upper()}_POOL_2D") if min(height, width) > 5 else x
    if step in ("relu", "tanh"):
        return net.simple(step.upper(), x)
    if step == "pad":
        return net.pad(x, (0, 0), (1, 2), (0, 1), (0, 0))
    if step == "depthwise":
        return net.depthwise(x)
    channels = net.shape(x)[-1] + 2
    if step == "valid" and min(net.shape(x)[1:3]) > 5:
        return valid(net, net.conv(x, channels))
    return net.conv(x, channels, RELU, window=1 if step == "pointwise" else 3)


def test_the_tests_notice_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if zeros next to an activation were shifted like it."""
    graph, _ = relu_then_padded_conv()
    leaves = module.leaves_of

    def unpadded(main: object, tensor: int) -> object:
        found = leaves(main, tensor)  # type: ignore[arg-type]
        return (
            found
            if isinstance(found, str)
            else replace(found, leaves=tuple(replace(x, pads=False) for x in found.leaves))
        )

    monkeypatch.setattr(module, "leaves_of", unpadded)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same(graph, fold_batch_norm(graph).rewritten.graph)
