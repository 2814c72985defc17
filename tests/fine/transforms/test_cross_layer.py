"""Channels scaled to one range: the same function, the paper's balance, and less noise in full int8."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.graphs import RELU
from support.nets import Net
from support.uneven_nets import joined, uneven
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Graph, Op, Options, Subgraph, Tensor
from tfq_converters.operators.facts import facts_of
from tfq_converters.operators.weights import data_of, weight_axes
from tfq_converters.runtime.runner import Runner
from tfq_fine.calibration import calibrate
from tfq_fine.calibration.instrument import StatisticsRequest
from tfq_fine.data import Batch
from tfq_fine.transforms.channel_scaling import scaled
from tfq_fine.transforms.cross_layer import MOST, choose_scales, factors, scalable
from tfq_fine.transforms.noise import Channels, Levels, Rows

INT8 = Levels(255, 127)
RELU6 = 3


def summed_up(values: np.ndarray) -> Channels:
    """What the channels of values [..., C] look like."""
    rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
    return Channels(rows.min(axis=0), rows.max(axis=0), np.square(rows).mean(axis=0), len(rows))


def channels_of(graph: Graph, samples: int = 4) -> Mapping[int, Channels]:
    main = graph.main
    tensors = tuple(dict.fromkeys(t for op in main.ops for t in op.outputs))
    runner = Runner(write(replace(graph, subgraphs=(replace(main, outputs=tensors),))), "reference")
    rng = np.random.default_rng(5)
    found: dict[int, Channels] = {}
    for _ in range(samples):
        for t, value in zip(tensors, runner.run([image(graph, rng)]), strict=True):
            seen = summed_up(value)
            found[t] = found[t].union(seen) if t in found else seen
    return found


def image(graph: Graph, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=graph.main.tensors[0].shape).astype(np.float32)


def levels_of(graph: Graph, levels: Levels = INT8) -> dict[int, Levels]:
    return {
        o: levels
        for o, op in enumerate(graph.main.ops)
        if facts_of(op.code).weight is not None and weight_axes(op, graph.main)
    }


def chain() -> Graph:
    """conv -> depthwise -> conv -> flattened dense, with uneven channels at every step."""
    net = Net(1, 6, 9, 5)
    x = uneven(net, net.conv(0, 7, RELU))
    x = uneven(net, net.depthwise(x))
    x = net.simple("RELU", x)
    x = uneven(net, net.conv(x, 11, RELU))
    x = net.pool(x, "MAX_POOL_2D")
    return net.graph(net.dense(net.reshape(x, 1, 3 * 4 * 11), 3))


def test_every_step_of_a_chain_is_scaled_and_the_function_stays() -> None:
    graph = chain()
    found = choose_scales(graph, channels_of(graph), levels_of(graph))
    assert len(found.changes) == 3
    assert {path.repeats for path, _ in found.changes} == {1, 12}
    x = image(graph, np.random.default_rng(8))
    (before,), (after,) = (Runner(write(g), "reference").run([x]) for g in (graph, scaled(graph, found.changes)))
    np.testing.assert_allclose(after, before, atol=1e-5 * np.abs(before).max())  # of float32 sums, rounded elsewhere


def test_the_estimate_is_that_of_the_scaled_graph() -> None:
    graph = chain()
    found = choose_scales(graph, channels_of(graph), levels_of(graph))
    again = scaled(graph, found.changes)
    after = choose_scales(again, channels_of(again), levels_of(again))
    assert found.after < 0.5 * found.before
    assert after.before == pytest.approx(found.after, rel=0.1)  # outputs count by their rows, which are others now


def test_a_scaled_chain_is_as_good_as_it_gets() -> None:
    """One pass is what the paper iterates to: nothing is gained by another."""
    graph = chain()
    for _ in range(2):
        found = choose_scales(graph, channels_of(graph), levels_of(graph))
        graph = scaled(graph, found.changes)
    assert found.after > 0.9 * found.before


@given(st.lists(st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)), min_size=1, max_size=9))
def test_equation_11(ranges: list[tuple[float, float]]) -> None:
    """Both ranges become sqrt(r1 r2), the geometric mean."""
    made, read = np.array(ranges).T
    found = factors(made, read)
    np.testing.assert_allclose(made * found, read / found, rtol=1e-9)
    np.testing.assert_allclose(made * found, np.sqrt(made * read), rtol=1e-9)


def test_depthwise_readers_get_one_range_for_all_channels() -> None:
    net = Net(1, 6, 9, 5)
    x = uneven(net, net.conv(0, 7, RELU))
    graph = net.graph(net.depthwise(x))
    known = channels_of(graph)
    ((path, scale),) = choose_scales(graph, known, levels_of(graph)).changes
    reach = known[path.tensor].reach
    awake = (reach > reach.max() / MOST**2) & (scale < 0.999 * MOST) & (scale > 1.001 / MOST)
    assert awake.sum() >= 3
    np.testing.assert_allclose((reach * scale)[awake], (reach * scale)[awake][0], rtol=1e-9)


def test_relu6_and_what_gains_nothing_are_left() -> None:
    net = Net(1, 6, 9, 5)
    graph = net.graph(net.conv(uneven(net, net.conv(0, 7, RELU6)), 3))
    assert not scalable(graph)
    net = Net(2, 9)
    even = net.graph(net.dense(net.dense(0, 7, RELU), 3))
    known = {
        t: replace(c, low=c.low * 0, high=c.high * 0 + 1, square=c.square * 0 + 0.3)
        for t, c in channels_of(even).items()
    }
    (found,) = [o for o in levels_of(even) if data_of(even.main.ops[o]) != 0]
    weight = even.main.ops[found].inputs[1]
    tensors = list(even.main.tensors)
    tensors[weight] = replace(tensors[weight], data=np.ones_like(tensors[weight].data))
    even = replace(even, subgraphs=(replace(even.main, tensors=tuple(tensors)),))
    assert not choose_scales(even, known, levels_of(even)).changes


@pytest.mark.parametrize("case", ["dense", "conv", "grouped", "transposed", "depthwise"])
def test_the_noise_is_that_of_rounding(case: str) -> None:
    """Against rounding itself, on random inputs: within 2 dB, as inputs are not independent of their neighbours."""
    rng = np.random.default_rng(3)
    net = Net(1, 23, 29, 16)
    made = {
        "dense": lambda: net.dense(0, 31),
        "conv": lambda: net.conv(0, 31),
        "grouped": lambda: net.conv(0, 12, groups=4),
        "transposed": lambda: net.transposed(0, 31),
        "depthwise": lambda: net.depthwise(0),
    }[case]()
    graph = net.graph(made)
    (op,) = graph.main.ops
    (axes,) = weight_axes(op, graph.main)
    x = rng.normal(size=graph.main.tensors[0].shape).astype(np.float32) * np.linspace(0.3, 1, 16).astype(np.float32)
    weight = graph.main.tensors[op.inputs[axes.slot]].data
    assert weight is not None
    others = tuple(axis for axis in range(weight.ndim) if axis != axes.channel)
    step_x, step_w = np.ptp(x) / 255, np.abs(weight).max(axis=others, keepdims=True) / 127
    rounded_x, rounded_w = np.rint(x / step_x) * step_x, np.rint(weight / step_w) * step_w
    tensors = list(graph.main.tensors)
    tensors[op.inputs[axes.slot]] = replace(tensors[op.inputs[axes.slot]], data=rounded_w.astype(np.float32))
    coarse = replace(graph, subgraphs=(replace(graph.main, tensors=tuple(tensors)),))
    bias = graph.main.tensors[op.inputs[-1]].data
    (exact,), (found,) = (Runner(write(g)).run([v.astype(np.float32)]) for g, v in ((graph, x), (coarse, rounded_x)))
    assert bias is not None
    signal = np.square(exact - bias).mean(axis=(0, 1, 2)) / np.square(weight).sum(axis=others).reshape(-1)
    noise = np.square(found - exact).mean(axis=(0, 1, 2)) / np.square(weight).sum(axis=others).reshape(-1)
    estimate = Rows.of(weight, axes.channel, axes.inputs).noise(summed_up(x), INT8, np.ones(16))
    assert abs(10 * np.log10(noise.sum() / signal.sum() / estimate)) < 2


def test_a_group_of_outputs_sees_channels_of_its_own() -> None:
    """A grouped convolution is a dense one with zeros between the groups, which are not rounded."""
    rng = np.random.default_rng(8)
    weight = rng.normal(size=(12, 3, 3, 4)).astype(np.float32)
    whole = np.zeros((12, 3, 3, 16), np.float32)
    for o in range(12):
        whole[o, :, :, o // 3 * 4 : o // 3 * 4 + 4] = weight[o]
    channels = summed_up(rng.normal(size=(50, 16)) * np.geomspace(0.01, 3, 16))
    grouped, dense = Rows.of(weight, 0, 3), Rows.of(whole, 0, 3)
    scale, exact_weights = np.linspace(0.5, 2, 16), Levels(255.0, np.inf)
    found, expected = (rows.noise(channels, exact_weights, scale) for rows in (grouped, dense))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(grouped.reach(16), dense.reach(16), rtol=1e-12)


def test_channels_are_summed_up_inside_the_graph() -> None:
    rng = np.random.default_rng(6)
    graph = Graph(
        (
            Subgraph(
                "main",
                (Tensor("x", (1, 3, 5, 7), "float32"), Tensor("y", (1, 3, 5, 7), "float32")),
                (Op("ABS", (0,), (1,)),),
                (0,),
                (1,),
            ),
        )
    )
    samples = [rng.normal(size=(1, 3, 5, 7)).astype(np.float32) for _ in range(3)]
    found = calibrate(
        graph, [Batch((x,), None, n) for n, x in enumerate(samples)], StatisticsRequest(channels=((0, 1), (0, 0)))
    )
    for t, values in ((0, np.concatenate(samples)), (1, np.abs(np.concatenate(samples)))):
        expected = summed_up(values)
        low, high, square = found.channels[0, t]
        np.testing.assert_array_equal(low, expected.low)
        np.testing.assert_array_equal(high, expected.high)
        np.testing.assert_allclose(square, expected.square, rtol=1e-5)  # float32 sums


def test_parts_of_a_concatenation_are_brought_to_one_range() -> None:
    """One is 50 times as large: 8 bits over both leave the other 5 codes. The function stays, with less noise."""
    graph = joined(50.0, fixed=False)
    scales = choose_scales(graph, channels_of(graph), levels_of(graph))
    ((path, factors_), *_) = [(path, scale) for path, scale in scales.changes if path.parts]
    assert [part.channels for part in path.parts] == [slice(0, 7), slice(7, 12)] and not path.has_fixed
    assert factors_[7:].min() > 4 * factors_[:7].max()
    assert scales.after < scales.before / 20  # noise
    x = image(graph, np.random.default_rng(8))
    (before,), (after,) = (Runner(write(g), "reference").run([x]) for g in (graph, scaled(graph, scales.changes)))
    np.testing.assert_allclose(after, before, atol=1e-5 * np.abs(before).max())


def test_a_part_that_is_an_input_stays() -> None:
    graph = joined(1.0, fixed=True)
    x = image(graph, np.random.default_rng(8)) * np.float32(100)
    path = scalable(graph)[graph.main.ops[-1].inputs[0]]
    assert path.has_fixed and [bool(part.makers) for part in path.parts] == [False, True]
    scale = path.with_fixed(np.geomspace(0.1, 9, 11))
    assert (scale[:6] == 1).all() and (np.diff(scale[6:]) > 0).all()
    (before,), (after,) = (Runner(write(g), "reference").run([x]) for g in (graph, scaled(graph, [(path, scale)])))
    np.testing.assert_allclose(after, before, atol=1e-5 * np.abs(before).max())


def test_a_table_is_scaled_where_it_is_a_part() -> None:
    """Embeddings next to counts: the rows of the table are scaled, unless another operator looks them up too."""
    net = Net(1, 3)
    net.tensors.append(Tensor("ids", (1,), "int32"))
    ids = len(net.tensors) - 1
    table = net.constant(np.float32(np.random.default_rng(0).normal(size=(9, 4)) * 0.02))
    options = Options("GatherOptions", {"axis": 0, "batchDims": 0})
    rows = net.add("GATHER", (table, ids), (1, 4), options)
    joined_options = Options("ConcatenationOptions", {"axis": 1, "fusedActivationFunction": 0})
    x = net.add("CONCATENATION", (rows, net.dense(0, 5)), (1, 9), joined_options)
    graph = net.graph(net.dense(x, 4))
    path = scalable(graph)[x]
    assert [bool(part.makers) for part in path.parts] == [True, True]
    again = scaled(graph, [(path, np.array([8.0] * 4 + [1.0] * 5))])
    maker = again.main.ops[path.parts[0].makers[0]]
    np.testing.assert_array_equal(again.main.tensors[maker.inputs[0]].data, np.asarray(net.tensors[table].data) * 8)
