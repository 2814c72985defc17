"""Channels divided or shifted where they are made: the same function, for norms and for linear operators."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from support.graphs import RELU
from support.nets import Net
from support.norm_nets import block, layer_norm, rms_norm
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Graph
from tfq_converters.runtime.runner import Runner
from tfq_fine.transforms.awq import ALPHAS, InputMoments, awq_factors, choose_awq
from tfq_fine.transforms.log_equalization import log_factors, strategy
from tfq_fine.transforms.noise import Channels
from tfq_fine.transforms.shift import middle
from tfq_fine.transforms.smooth_quant import smooth_quant_factors
from tfq_fine.transforms.smoothing import norm_size, shifted, smoothed, smoothing_paths


def layer_normed() -> Graph:
    return block()


def rms_normed() -> Graph:
    net = Net(1, 7, 33)
    y = rms_norm(net, net.dense(0, 33), net.rng.uniform(0.5, 1.5, 33))
    return net.graph(net.dense(y, 5), net.dense(y, 4, bias=False))


def affine_after_relu() -> Graph:
    net = Net(1, 6, 9, 3)
    y = net.with_constant("MUL", net.conv(0, 7, RELU), net.random(7))
    y = net.with_constant("ADD", y, net.random(7))
    return net.graph(net.dense(net.mean(y), 5))


def residual() -> Graph:
    """ReLU after a sum of two convolutions, which padded, grouped and depthwise ones and a flattening layer read."""
    net = Net(1, 6, 9, 3)
    y = net.simple("RELU", net.sum(net.conv(0, 10), net.conv(0, 10)))
    flat = net.dense(net.reshape(y, 1, 540), 4)
    return net.graph(net.conv(y, 7), net.conv(y, 6, groups=2), net.depthwise(y), flat)


def computed_reshape() -> Graph:
    """A reshape to rows whose number and length are not known before it runs, as Keras writes Dense on 3-D inputs."""
    net = Net(1, 7, 33)
    y = layer_norm(net, net.dense(0, 33), net.rng.uniform(0.5, 1.5, 33), net.rng.normal(size=33))
    rows = net.reshape(y, 7, 33)
    out = net.dense(rows, 5)
    net.tensors[rows] = replace(net.tensors[rows], shape=(1, 1), shape_signature=(-1, -1))
    return net.graph(out)


def linear() -> Graph:
    net = Net(1, 6, 9, 3)
    return net.graph(net.dense(net.mean(net.conv(0, 7)), 5))


SCALED = (layer_normed, rms_normed, affine_after_relu, residual, computed_reshape, linear)
SHIFTED = (layer_normed, affine_after_relu, computed_reshape, linear)


def outputs(graph: Graph) -> list[np.ndarray]:
    x = np.random.default_rng(1).normal(size=graph.main.tensors[0].shape).astype(np.float32)
    return list(Runner(write(graph), "reference").run([x]))


def check_equal(before: Graph, after: Graph) -> None:
    for expected, found in zip(outputs(before), outputs(after), strict=True):
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("make", SCALED)
def test_a_scaled_activation_leaves_the_outputs(make: Callable[[], Graph]) -> None:
    graph = make()
    paths = [path for path in smoothing_paths(graph).values() if path.makers]
    assert paths
    rng = np.random.default_rng(0)
    after = smoothed(graph, [(path, rng.uniform(0.25, 4, path.channels)) for path in paths])
    check_equal(graph, after)
    assert all(after.main.tensors[path.tensor].name != graph.main.tensors[path.tensor].name for path in paths)


@pytest.mark.parametrize("make", SHIFTED)
def test_a_shifted_activation_leaves_the_outputs(make: Callable[[], Graph]) -> None:
    graph = make()
    paths = [path for path in smoothing_paths(graph).values() if path.shifters]
    assert paths
    after = shifted(graph, [(path, np.random.default_rng(0).normal(size=path.channels)) for path in paths])
    check_equal(graph, after)
    assert all(after.main.tensors[path.tensor].name != graph.main.tensors[path.tensor].name for path in paths)


def test_several_layers_read_one_norm() -> None:
    """Gamma and beta are what is scaled; beta alone is shifted."""
    graph = block()
    (path,) = (path for path in smoothing_paths(graph).values() if len(path.leaves) == 3)
    constants = [t for o in path.makers for t in graph.main.ops[o].inputs if graph.main.tensors[t].is_constant]
    assert [graph.main.tensors[t].shape for t in constants] == [(33,), (33,)]
    assert sorted(graph.main.ops[o].code for o in path.makers) == ["ADD", "ADD", "MUL", "MUL", "MUL"]
    assert [graph.main.ops[o].code for o in path.shifters] == ["ADD", "ADD"]
    size = norm_size(graph.main, path)
    gamma, beta = (graph.main.tensors[t].constant.astype(np.float64) for t in constants)
    assert size is not None
    assert np.allclose(size, np.sqrt(gamma**2 + beta**2), rtol=1e-12)


@pytest.mark.parametrize("make", [affine_after_relu, residual, linear])
def test_the_size_of_what_is_no_norm_is_not_known(make: Callable[[], Graph]) -> None:
    graph = make()
    assert all(norm_size(graph.main, path) is None for path in smoothing_paths(graph).values())


def test_an_output_stays() -> None:
    net = Net(1, 7, 33)
    y = layer_norm(net, net.dense(0, 33), np.ones(33), np.zeros(33))
    assert not smoothing_paths(net.graph(net.dense(y, 5), y))


def test_what_is_bent_stays() -> None:
    net = Net(1, 7, 33)
    assert not smoothing_paths(net.graph(net.dense(net.simple("TANH", net.dense(0, 9)), 5)))


def test_a_gain_that_something_else_reads_stays() -> None:
    net = Net(1, 7, 33)
    y = layer_norm(net, net.dense(0, 33), np.ones(33), np.zeros(33))
    gain = next(op.outputs[0] for op in net.ops if op.code == "MUL")
    (path,) = smoothing_paths(net.graph(net.dense(y, 5), net.simple("TANH", gain))).values()
    assert not path.makers
    assert path.shifters


def test_zeros_next_to_an_activation_are_not_shifted() -> None:
    net = Net(1, 6, 9, 3)
    (path,) = smoothing_paths(net.graph(net.conv(net.conv(0, 7), 5))).values()
    assert path.makers
    assert not path.shifters


def test_log_equalization_is_the_published_formula() -> None:
    """max|X| = 14, 62 and 254 are divided by 14 / log2(16), 62 / log2(64) and 254 / log2(256)."""
    largest = np.array([14.0, 62.0, 254.0])
    s = log_factors(largest)
    assert s.tolist() == [14 / 4, 62 / 6, 254 / 8]
    assert (largest / s).tolist() == [4.0, 6.0, 8.0]
    assert [strategy(v) for v in (1.0, 15.0, 16.0, 150.0, 151.0)] == ["static", "static", *["equalized"] * 2, "dynamic"]


def test_smooth_quant_is_the_published_formula() -> None:
    found = smooth_quant_factors(np.array([100.0, 4.0]), np.array([0.25, 9.0]), 0.75)
    assert np.allclose(found, [100**0.75 / 0.25**0.25, 4**0.75 / 9**0.25], rtol=1e-12)


def test_shift_is_the_published_formula() -> None:
    assert middle(Channels(np.array([-3.0, 10.0]), np.array([1.0, 30.0]), np.ones(2))).tolist() == [-1.0, 20.0]


def test_awq_takes_the_alpha_with_the_least_output_error() -> None:
    """Against outputs computed from the values themselves, for every alpha of the grid."""
    net, rng = Net(1, 7, 33), np.random.default_rng(2)
    y = layer_norm(net, net.dense(0, 33), np.ones(33), np.zeros(33))
    graph = net.graph(net.dense(y, 17, bias=False))
    (path,) = smoothing_paths(graph).values()
    x = rng.normal(size=(50, 33)) * np.geomspace(0.05, 20, 33)
    o = path.leaves[0].op
    weight = graph.main.tensors[graph.main.ops[o].inputs[1]].constant

    def rounded(values: np.ndarray) -> np.ndarray:
        step = np.abs(values).max(axis=1, keepdims=True) / 7
        return np.asarray(np.round(values / step) * step)

    def error(s: np.ndarray) -> float:
        held = rounded((weight * s).astype(np.float32)) / s
        return float(np.square(x @ (held - weight).T).sum() / np.square(x @ weight.T).sum())

    found = choose_awq(graph, [path], {path.tensor: InputMoments.of(x)}, {o: rounded})
    errors = [error(awq_factors(np.abs(x).mean(axis=0), alpha)) for alpha in ALPHAS]
    best = int(np.argmin(errors))
    assert len(ALPHAS) == 20
    assert best > 0
    ((_, s),) = found.changes
    assert np.allclose(s, awq_factors(np.abs(x).mean(axis=0), ALPHAS[best]), rtol=1e-9)
    assert np.isclose(found.before, errors[0], rtol=1e-5)  # weights are float32
    assert np.isclose(found.after, errors[best], rtol=1e-5)


def test_moments_add_up() -> None:
    values = np.random.default_rng(0).normal(size=(9, 5))
    both = InputMoments.of(values[:2]).plus(InputMoments.of(values[2:]))
    assert both.count == 9
    assert np.allclose(both.magnitude, np.abs(values).mean(axis=0))
    assert np.allclose(both.second, values.T @ values / 9)
