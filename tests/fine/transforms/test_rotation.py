"""Rotations that fold into weights: equal outputs, and refusals."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import tfq_fine as tfq
from support.nets import Net
from support.norm_nets import attention, channel_mean, layer_norm, product, reciprocal, rms_norm
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import ABSENT, Graph
from tfq_converters.runtime.runner import Runner
from tfq_fine.transforms.residual_stream import residual_streams
from tfq_fine.transforms.rotation import random_hadamard, rotatable_heads, rotated
from tfq_fine.variants.select_transforms import chosen_transforms

TOKENS, WIDTH, OUT = 7, 20, 5


def data(count: int = 1) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, TOKENS, 11)).astype(np.float32)


def gamma(net: Net) -> np.ndarray:
    return np.asarray(net.rng.uniform(0.5, 1.5, WIDTH))


def written(net: Net) -> int:
    """A matrix and constants for each position."""
    return net.with_constant("ADD", net.dense(0, WIDTH), net.random(1, TOKENS, WIDTH))


def decoder(norm: Callable[..., int] = rms_norm, gelu: bool = False) -> Graph:
    """Attention and an MLP that write to a residual stream, each after a norm; the last norm is read by a matrix."""
    net = Net(1, TOKENS, 11)
    more = () if norm is rms_norm else (np.zeros(WIDTH),)
    x = written(net)
    heads = attention(net, norm(net, x, gamma(net), *more), 3, 4)
    x = net.sum(x, net.dense(heads, WIDTH))
    inner = net.simple("TANH", net.dense(norm(net, x, gamma(net), *more), 13))
    x = net.sum(x, net.dense(inner, WIDTH))
    x = net.simple("TANH", x) if gelu else x
    return net.graph(net.dense(norm(net, x, gamma(net), *more), OUT))


def gamma_first() -> Graph:
    """Gamma multiplies the reciprocal of the root mean square; a matrix reads the stream without a norm."""
    net = Net(1, TOKENS, 11)
    x = written(net)
    r = reciprocal(net, channel_mean(net, product(net, x, x)))
    y = product(net, x, product(net, r, net.constant(gamma(net).astype(np.float32))))
    return net.graph(net.sum(net.dense(y, OUT), net.dense(x, OUT)))


def check_equal(graph: Graph, after: Graph) -> None:
    (expected,), (found,) = (Runner(write(each), "reference").run([data()]) for each in (graph, after))
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("size", [1, 2, 8, 20, 33])
def test_a_random_hadamard_matrix_is_orthogonal(size: int) -> None:
    r = random_hadamard(size, np.random.default_rng(0))
    assert np.abs(r @ r.T - np.eye(size)).max() < 1e-12
    if size == 8:
        assert np.allclose(np.abs(r), 8**-0.5)


def test_a_residual_stream_and_heads_are_turned() -> None:
    graph = decoder()
    (stream,), (heads,) = residual_streams(graph.main), rotatable_heads(graph.main)
    assert (len(stream.writers), len(stream.added), len(stream.norms), len(stream.matrices)) == (3, 1, 3, 8)
    assert heads.depth == 4
    for streams, each in (([stream], []), ([], [heads]), ([stream], [heads])):
        after = rotated(graph, streams, each)
        assert [op.code for op in after.main.ops] == [op.code for op in graph.main.ops]
        check_equal(graph, after)
        changed = [
            o
            for o, (a, b) in enumerate(zip(graph.main.ops, after.main.ops, strict=True))
            if a.code == "FULLY_CONNECTED"
            and not np.allclose(graph.main.tensors[a.inputs[1]].constant, after.main.tensors[b.inputs[1]].constant)
        ]
        turned = {o for s in streams for o in s.matrices} | {o for h in each for o in (*h.makers, h.leaves[0].op)}
        assert set(changed) == {o for o in turned if graph.main.ops[o].code == "FULLY_CONNECTED"}


def test_gamma_may_come_before_the_activation() -> None:
    graph = gamma_first()
    (stream,) = residual_streams(graph.main)
    assert len(stream.leaves) == 1
    check_equal(graph, rotated(graph, [stream], []))


def embedded(tied: bool) -> Graph:
    """Rows of a table, whose ids are the input; perhaps the last matrix is the table, too."""
    net = Net(1, TOKENS)
    net.tensors[0] = replace(net.tensors[0], dtype="int32")
    x = net.gather(0, 9, WIDTH)
    y = net.dense(rms_norm(net, x, gamma(net)), 9)
    if tied:
        net.ops[-1] = replace(net.ops[-1], inputs=(net.ops[-1].inputs[0], net.ops[0].inputs[0], ABSENT))
    return net.graph(y)


def test_a_table_is_turned() -> None:
    graph, ids = embedded(tied=False), np.array([[0, 3, 8, 8, 2, 1, 5]], np.int32)
    (stream,) = residual_streams(graph.main)
    turned = rotated(graph, [stream], [])
    (expected,), (found,) = (Runner(write(each), "reference").run([ids]) for each in (graph, turned))
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    tables = [each.main.tensors[each.main.ops[0].inputs[0]].constant for each in (graph, turned)]
    assert not np.allclose(*tables)


def stream_of_a_shared_table() -> Graph:
    return embedded(tied=True)


def stream_of_layer_norms() -> Graph:
    """A layer norm subtracts a mean, which a rotation does not keep."""
    return decoder(layer_norm)


def bent_stream() -> Graph:
    return decoder(gelu=True)


def stream_as_output() -> Graph:
    net = Net(1, TOKENS, 11)
    x = written(net)
    return net.graph(net.dense(rms_norm(net, x, gamma(net)), OUT), x)


def bent_norm() -> Graph:
    net = Net(1, TOKENS, 11)
    return net.graph(net.dense(net.simple("TANH", rms_norm(net, written(net), gamma(net))), OUT))


def gated_stream() -> Graph:
    """A product of two activations of the width reads the stream."""
    net = Net(1, TOKENS, 11)
    x = written(net)
    y = net.dense(rms_norm(net, x, gamma(net)), WIDTH)
    return net.graph(net.dense(product(net, x, y), OUT))


REFUSED = (
    stream_of_a_shared_table,
    stream_of_layer_norms,
    bent_stream,
    stream_as_output,
    bent_norm,
    gated_stream,
)


@pytest.mark.parametrize("make", REFUSED)
def test_other_streams_stay(make: Callable[[], Graph]) -> None:
    graph = make()
    Runner(write(graph), "reference")  # a graph that kernels take
    assert not residual_streams(graph.main)


def test_rotation_is_tried_by_name_alone() -> None:
    assert "rotate" not in chosen_transforms("auto")
    options = {"transforms": "rotate", "quality": "fast", "prefer": "size"}
    (row,) = tfq.quantize(write(decoder()), "full_w4a8", data(24), **options).report.transforms  # type: ignore[arg-type]
    assert row.text.startswith("1 times the values of attention, 1 residual streams")
