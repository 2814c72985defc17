"""Channels of the merged heads of attention, scaled where its values are made."""

from collections.abc import Callable

import numpy as np
import pytest

from support.nets import Net
from support.norm_nets import attention, layer_norm, matmul, merged, split_heads
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Graph
from tfq_converters.runtime.runner import Runner
from tfq_fine.transforms.smoothing import SmoothingPath, known_size, smoothed, smoothing_paths
from tfq_fine.variants.float_reference import with_outputs

TOKENS, HEADS, DEPTH, OUT = 7, 3, 5, 4


def through_attention(graph: Graph) -> list[SmoothingPath]:
    main = graph.main
    paths = smoothing_paths(graph).values()
    return [path for path in paths if any(main.ops[o].code == "BATCH_MATMUL" for o in path.makers)]


@pytest.mark.parametrize("bias_by_head", [False, True])
def test_values_are_scaled_through_attention(bias_by_head: bool) -> None:
    net = Net(1, TOKENS, 11)
    graph = net.graph(net.dense(attention(net, 0, HEADS, DEPTH, bias_by_head), OUT))
    (path,) = through_attention(graph)
    assert path.channels == HEADS * DEPTH
    s = np.random.default_rng(0).uniform(0.25, 4, path.channels)
    after = smoothed(graph, [(path, s)])
    both = [with_outputs(each, (each.main.outputs[0], path.tensor)) for each in (graph, after)]
    x = np.random.default_rng(1).normal(size=(1, TOKENS, 11)).astype(np.float32)
    (expected, heads), (found, divided) = (Runner(write(each), "reference").run([x]) for each in both)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    assert np.abs(divided * s - heads).max() <= 1e-5 * np.abs(divided * s).max()


@pytest.mark.parametrize("bias_by_head", [False, True])
def test_the_size_of_values_follows_from_a_norm(bias_by_head: bool) -> None:
    """Against values computed from channels that have nothing to do with one another."""
    net = Net(1, TOKENS, 11)
    gamma, beta = net.rng.uniform(0.5, 1.5, 11), net.rng.normal(size=11)
    y = layer_norm(net, net.simple("NEG", 0), gamma, beta)
    graph = net.graph(net.dense(attention(net, y, HEADS, DEPTH, bias_by_head), OUT))
    (path,) = through_attention(graph)
    main, matrix = graph.main, graph.main.ops[path.makers[-1]]
    weight = main.tensors[matrix.inputs[1]].constant.astype(np.float64)
    biases = [t for op in main.ops if op.code == "ADD" for t in op.inputs if main.tensors[t].shape == (HEADS, DEPTH)]
    (bias,) = (main.tensors[t].constant.reshape(-1) for t in (biases or matrix.inputs[2:]))
    sizes = np.random.default_rng(0).normal(size=(200_000, 2, 11)) * [gamma, beta]
    values = sizes.sum(axis=1) @ weight.T + bias
    expected = np.sqrt(np.mean(values**2, axis=0))
    assert np.allclose(known_size(graph, path), expected, rtol=0.03)  # 200,000 draws


def test_the_size_of_other_values_is_not_known() -> None:
    net = Net(1, TOKENS, 11)
    graph = net.graph(net.dense(attention(net, 0, HEADS, DEPTH), OUT))
    assert known_size(graph, through_attention(graph)[0]) is None


def apart(net: Net, heads: int = HEADS) -> int:
    """Queries, keys or values [1, heads, tokens, depth]."""
    return split_heads(net, net.dense(0, heads * DEPTH), heads)


def weighted(net: Net, values: int) -> int:
    """Values mixed over the tokens, with weights that are no probabilities."""
    return matmul(net, matmul(net, apart(net), apart(net), transposed=True), values)


def values_read_elsewhere() -> Graph:
    net = Net(1, TOKENS, 11)
    values = apart(net)
    return net.graph(net.dense(merged(net, weighted(net, values)), OUT), net.simple("TANH", values))


def values_that_are_bent() -> Graph:
    net = Net(1, TOKENS, 11)
    return net.graph(net.dense(merged(net, weighted(net, net.simple("TANH", apart(net)))), OUT))


def heads_not_transposed_back() -> Graph:
    """A channel of the result holds several channels of the values."""
    net = Net(1, TOKENS, 11)
    return net.graph(net.dense(net.reshape(weighted(net, apart(net)), 1, TOKENS, HEADS * DEPTH), OUT))


def values_of_all_heads() -> Graph:
    """Multi-query attention: three channels of the result come from one channel of the values."""
    net = Net(1, TOKENS, 11)
    return net.graph(net.dense(merged(net, weighted(net, apart(net, heads=1))), OUT))


def merged_heads_are_an_output() -> Graph:
    net = Net(1, TOKENS, 11)
    heads = attention(net, 0, HEADS, DEPTH)
    return net.graph(net.dense(heads, OUT), heads)


def no_attention() -> Graph:
    """The heads are split and merged again, with nothing in between."""
    net = Net(1, TOKENS, 11)
    return net.graph(net.dense(merged(net, apart(net)), OUT))


REFUSED = (
    values_read_elsewhere,
    values_that_are_bent,
    heads_not_transposed_back,
    values_of_all_heads,
    merged_heads_are_an_output,
    no_attention,
)


@pytest.mark.parametrize("make", REFUSED)
def test_other_values_stay(make: Callable[[], Graph]) -> None:
    graph = make()
    Runner(write(graph), "reference")  # a graph that kernels take
    assert not through_attention(graph)
