"""Ranges and means against the interpreter's own intermediates."""

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.graphs import DENSE, images, small_cnn
from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, Op, Options, Subgraph, Tensor
from tfq_converters.runtime.runner import Runner
from tfq_fine.calibration import (
    ReadingOptions,
    Spool,
    algorithm_needs,
    calibrate,
    gather,
    mean_needs,
    range_needs,
)
from tfq_fine.calibration.instrument import StatisticsRequest
from tfq_fine.calibration.kept_samples import (
    BUDGET,
    LEAST,
    LIMIT,
    MOST,
    KeptSamples,
    bytes_of,
    digest,
    fitting,
)
from tfq_fine.calibration.needs import FOR_ALGORITHMS
from tfq_fine.calibration.observers.second_moment import second_moment
from tfq_fine.calibration.statistics import Range, Statistics
from tfq_fine.calibration.value_sampling import positions
from tfq_fine.data import Batch, InputSpec, singles
from tfq_fine.numerics.histogram import Histogram

COMPUTED = (0, 3, 6, 8, 11, 12)  # tensors of small_cnn that are not constants


def batches(data: np.ndarray, size: int = 1) -> Iterator[Batch]:
    for start in range(0, len(data), size):
        yield Batch((data[start : start + size],), None, start)


def intermediates(data: np.ndarray) -> dict[int, np.ndarray]:
    graph = small_cnn()
    probe = replace(graph, subgraphs=(replace(graph.main, outputs=COMPUTED),), signatures=())
    runner = Runner(flatbuffer.write(probe), "optimized")
    runs = [runner.run([image[None]]) for image in data]
    return {t: np.concatenate([run[n] for run in runs]) for n, t in enumerate(COMPUTED)}


def test_ranges_and_means_are_those_of_the_intermediates() -> None:
    data = images(6)
    found = calibrate(small_cnn(), batches(data))
    assert found.samples == 6
    assert set(found.ranges) == {(0, t) for t in COMPUTED}
    for t, values in intermediates(data).items():
        # 1e-5: the fast and the plain float kernels sum in another order
        low = 0.0 if t == 3 else values.min()  # tensor 3 has a fused ReLU: 0 stands for its minimum
        np.testing.assert_allclose(found.ranges[0, t], (low, values.max()), rtol=1e-5, atol=1e-5)
        if (0, t) in found.means:
            np.testing.assert_allclose(found.means[0, t], values.mean(axis=tuple(range(values.ndim - 1))), atol=1e-5)
    assert set(found.means) == {(0, 0), (0, 3), (0, 8)}


def test_shards_merge_to_the_whole(tmp_path: Path) -> None:
    data, graph = images(7), small_cnn()
    whole = calibrate(graph, batches(data))
    merged = calibrate(graph, batches(data[:3])).merge(calibrate(graph, batches(data[3:])))
    assert merged.ranges == whole.ranges
    assert merged.samples == 7
    for key, mean in whole.means.items():
        np.testing.assert_allclose(merged.means[key], mean, rtol=1e-12)
    merged.save(tmp_path / "statistics.npz")
    again = Statistics.load(tmp_path / "statistics.npz")
    assert again.ranges == merged.ranges and again.samples == 7
    assert {key: mean.tolist() for key, mean in again.means.items()} == {
        key: mean.tolist() for key, mean in merged.means.items()
    }


def test_a_generator_is_read_once_and_not_held() -> None:
    alive: list[int] = []

    def data() -> Iterator[Batch]:
        for n, batch in enumerate(batches(images(4))):
            alive.append(n)
            yield batch

    assert calibrate(small_cnn(), data()).samples == 4
    assert alive == [0, 1, 2, 3]


def test_no_samples_is_an_error() -> None:
    with pytest.raises(TfqError, match="no samples"):
        calibrate(small_cnn(), iter(()))


def test_an_overflowing_layer_is_named() -> None:
    data = images(2)
    data[1] = 3e38
    with pytest.raises(TfqError, match=r"conv \(CONV_2D\) computes NaN or infinity in float, at sample 1"):
        calibrate(small_cnn(), batches(data))


def logarithm(code: str = "LOG") -> Graph:
    """A function of one value before a product that adds all values up: x -> LOG -> ADD -> FULLY_CONNECTED."""
    ones = np.ones((3, 7), np.float32)
    tensors = (
        Tensor("x", (1, 7), "float32"),
        Tensor("log", (1, 7), "float32"),
        Tensor("one", (1,), "float32", data=np.ones(1, np.float32)),
        Tensor("sum", (1, 7), "float32"),
        Tensor("kernel", (3, 7), "float32", data=ones),
        Tensor("y", (1, 3), "float32"),
    )
    ops = (
        Op(code, (0,), (1,), layer="front"),
        Op("ADD", (1, 2), (3,), Options("AddOptions", {"fusedActivationFunction": 0}), layer="shift"),
        Op("FULLY_CONNECTED", (3, 4, -1), (5,), Options("FullyConnectedOptions", DENSE), layer="head"),
    )
    return Graph((Subgraph("main", tensors, ops, (0,), (5,)),))


@pytest.mark.parametrize(("code", "value"), [("LOG", -1.0), ("LOG", 0.0), ("SQRT", -1.0), ("RSQRT", -1.0)])
@pytest.mark.parametrize("asked", [(0, 3, 5), (5,)], ids=["all", "the last"])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_operator_that_is_not_finite_is_named(
    code: str, value: float, asked: tuple[int, ...], threads: int
) -> None:
    """REDUCE_MIN and REDUCE_MAX skip one NaN of seven, and nobody asks for the range of what a float operator gives."""
    data = np.full((5, 7), 2.0, np.float32)
    data[3, 4] = value
    buffer = np.empty((1, 7), np.float32)

    def reused() -> Iterator[Batch]:
        for n, row in enumerate(data):
            buffer[:] = row
            yield Batch((buffer,), None, n)

    with pytest.raises(TfqError, match=rf"front \({code}\) computes NaN or infinity in float, at sample 3"):
        calibrate(logarithm(code), reused(), StatisticsRequest(ranges=tuple((0, t) for t in asked)), threads=threads)


def test_statistics_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, a=np.zeros(3))
    with pytest.raises(TfqError, match="does not hold saved statistics"):
        Statistics.load(path)


def test_ranges_unite() -> None:
    assert Range(-1.0, 2.0).union(Range(-3.0, 1.0)) == Range(-3.0, 2.0)
    assert Range(1.0, 2.0).extent == 2.0
    assert Range(-3.0, 2.0).absmax == 3.0


def all_needs(graph: Graph) -> StatisticsRequest:
    keys = range_needs(graph).ranges
    more = algorithm_needs(graph, FOR_ALGORITHMS)
    moving = tuple((key, 0.9) for key in keys)
    return range_needs(graph).also(StatisticsRequest(histograms=keys, moving=moving)).also(more)


def close(found: Statistics, expected: Statistics) -> None:
    """Bit for bit, but for what is summed as floats: 1e-12 of float64 sums in another order."""
    averaged = ("means", "second_moments")
    assert replace(found, **{kind: {} for kind in averaged}, moving={}) == replace(
        expected, **{kind: {} for kind in averaged}, moving={}
    )
    for kind in averaged:
        for key, value in getattr(expected, kind).items():
            np.testing.assert_allclose(getattr(found, kind)[key], value, rtol=1e-12)
    for key, moving in expected.moving.items():
        np.testing.assert_allclose(found.moving[key].range, moving.range, rtol=1e-12)


@settings(deadline=None, max_examples=12)
@given(st.lists(st.integers(0, 9), max_size=3))
def test_any_partition_merges_to_one_pass(cuts: list[int]) -> None:
    data, graph = images(9), small_cnn()
    needs = all_needs(graph)
    limits = sorted({0, *cuts, 9})
    parts = [calibrate(graph, batches(data[a:b]), needs) for a, b in pairwise(limits)]
    close(reduce(Statistics.merge, parts), calibrate(graph, batches(data), needs))


def test_what_does_not_depend_on_the_order_is_the_same_in_any() -> None:
    data, graph = images(8), small_cnn()
    needs = replace(all_needs(graph), moving=())
    close(calibrate(graph, batches(data[::-1]), needs), calibrate(graph, batches(data), needs))


def test_threads_and_batches_change_no_statistic() -> None:
    data, graph = images(8), small_cnn()
    needs = replace(all_needs(graph), second_moments=())
    whole = calibrate(graph, batches(data), needs)
    assert calibrate(graph, batches(data), needs, threads=2) == whole
    assert calibrate(graph, batches(data, 3), needs).histograms == whole.histograms


def test_statistics_are_those_of_the_values() -> None:
    data, graph = images(6), small_cnn()
    found = calibrate(graph, batches(data), all_needs(graph))
    for t, values in intermediates(data).items():
        rows = values.reshape(6, -1)
        where = positions(rows.shape[1])
        histogram = Histogram.of(rows[:, where])
        if t == 0:  # the data itself: no kernel in between
            assert found.histograms[0, t] == histogram
            assert found.extremes[0, t].high == Histogram.of(rows.max(1))
        assert found.histograms[0, t].total == histogram.total == 6 * min(rows.shape[1], 512)
        if (0, t) in found.absmax:
            expected = np.abs(values).max(axis=tuple(range(values.ndim - 1)))
            np.testing.assert_allclose(found.absmax[0, t], expected, rtol=1e-5, atol=1e-5)
    for (_, o), moment in found.second_moments.items():
        op = graph.main.ops[o]
        values = intermediates(data)[op.inputs[0]]
        # 1e-4: float32 sums over patches, and the kernels' own rounding
        np.testing.assert_allclose(moment, second_moment(values, op, graph.main), rtol=1e-4, atol=1e-4)


def test_positions_are_spread_and_differ() -> None:
    for count in (1, 512, 513, 1024, 9999, 401408):
        found = positions(count)
        assert len(found) == min(count, 512) == len(set(found.tolist()))
        assert found.min() >= 0 and found.max() < count
        assert (np.diff(found) <= 2 * -(-count // 512)).all()  # one in each stretch


def dynamic_graph() -> Graph:
    """RELU of a sequence of any length."""
    tensors = (
        Tensor("x", (1, 1, 3), "float32", (-1, -1, 3)),
        Tensor("y", (1, 1, 3), "float32", (-1, -1, 3)),
    )
    return Graph((Subgraph("main", tensors, (Op("RELU", (0,), (1,)),), (0,), (1,)),))


def test_tensors_of_any_length_are_sampled_along_all_of_it() -> None:
    graph = dynamic_graph()
    ramps = [np.linspace(0, 1, 3 * n, dtype=np.float32).reshape(1, n, 3) for n in (700, 11, 1300)]
    data = (Batch((ramp,), None, n) for n, ramp in enumerate(ramps))
    found = calibrate(graph, data, StatisticsRequest(histograms=((0, 0),)))
    histogram = found.histograms[0, 0]
    assert histogram.total == 3 * 512
    assert abs(histogram.moments()[0] - 0.5) < 0.01 and histogram.quantile(0.999) > 0.99


def test_bad_samples_are_skipped_and_counted() -> None:
    data, graph = images(7), small_cnn()
    data[2, 0, 0, 0], data[5] = np.nan, 3e38
    found = calibrate(graph, batches(data, 3), all_needs(graph), on_invalid="skip")
    assert found.skipped == 2 and "2 samples were skipped" in found.warnings[0]
    good = calibrate(graph, batches(data[[0, 1, 3, 4, 6]]), all_needs(graph))
    close(replace(found, skipped=0), good)
    with pytest.raises(TfqError, match="holds no samples but the 1 that were skipped"):
        calibrate(graph, batches(data[2:3]), on_invalid="skip")
    gathered = gather(graph, data[2:], range_needs(graph), ReadingOptions(on_invalid="skip"))
    expected = KeptSamples.of((data[n : n + 1],) for n in (3, 4, 6))
    assert [x.tolist() for (x,) in gathered.samples] == [x.tolist() for (x,) in expected]  # what later stages run on
    with pytest.raises(TfqError, match="sample 2: nan is not a finite number"):
        gather(graph, data, range_needs(graph), ReadingOptions())


def test_an_interrupt_keeps_what_was_gathered() -> None:
    def interrupted() -> Iterator[Batch]:
        yield from batches(images(3))
        raise KeyboardInterrupt

    for threads in (1, 2):
        found = calibrate(small_cnn(), interrupted(), threads=threads)
        assert 1 <= found.samples <= 3
        assert f"interrupted: the statistics are those of the first {found.samples} samples" in found.warnings[0]
        assert found.ranges == calibrate(small_cnn(), batches(images(3)[: found.samples])).ranges


def test_constant_tensors_are_named() -> None:
    found = calibrate(small_cnn(), batches(np.zeros((2, 9, 11, 3), np.float32)))
    assert "the samples leave" in found.warnings[0] and "images" in found.warnings[0]
    assert not calibrate(small_cnn(), batches(images(30))).warnings


def test_ranges_that_still_grow_ask_for_more_data() -> None:
    growing = images(20) * np.arange(1, 21, dtype=np.float32)[:, None, None, None]
    (warning,) = calibrate(small_cnn(), batches(growing)).warnings
    assert "calibrate on more data" in warning


def test_saved_statistics_are_the_same(tmp_path: Path) -> None:
    graph = small_cnn()
    found = calibrate(graph, batches(images(5)), all_needs(graph))
    found.save(tmp_path / "all.npz")
    again = Statistics.load(tmp_path / "all.npz")
    assert again == found and again.names[0, 0] == "images"
    assert again.merge(found).samples == 10
    changed = dict(found.histograms)
    changed[0, 0] = changed[0, 0].merge(changed[0, 0])
    assert replace(found, histograms=changed) != found
    assert [path.name for path in tmp_path.iterdir()] == ["all.npz"]


def test_statistics_print_as_a_table() -> None:
    graph = small_cnn()
    lines = str(calibrate(graph, batches(images(5)), all_needs(graph))).splitlines()
    assert lines[0] == "5 samples, 6 tensors"
    assert len(lines) == 8 and lines[2].endswith("images")


def test_statistics_of_another_model_are_refused() -> None:
    found = calibrate(small_cnn(), batches(images(2)))
    other = replace(
        small_cnn().main, tensors=(replace(small_cnn().main.tensors[0], name="x"), *small_cnn().main.tensors[1:])
    )
    with pytest.raises(TfqError, match="tensor 0 is 'images' there and 'x' here"):
        found.require_of(replace(small_cnn(), subgraphs=(other,)))


def numbered(count: int, size: int = 1) -> list[tuple[np.ndarray, ...]]:
    return [(np.full((1, size), n, np.float32),) for n in range(count)]


def test_few_samples_are_kept_from_all_of_the_data() -> None:
    for count in (1, 5, MOST, MOST + 1, 1000):
        kept = KeptSamples.of(numbered(count))
        found = {float(sample[0][0, 0]) for sample in kept}
        assert len(kept) == len(found) == min(count, MOST)
        assert count < 1000 or (max(found) > 900 and min(found) < 100)  # not the first ones, nor the last


def test_the_same_samples_are_kept_in_every_order_and_partition() -> None:
    data = numbered(300)
    kept = KeptSamples.of(data)
    parts = (KeptSamples.of(data[::2]), KeptSamples.of(data[1::2]))
    for others in (data[::-1], sorted(data, key=lambda s: -(s[0][0, 0] % 7)), [*parts[1], *parts[0]], data + data[:50]):
        found = KeptSamples.of(others)
        assert [x.tolist() for (x,) in found] == [x.tolist() for (x,) in kept]


def test_equal_samples_count_once() -> None:
    blank = [(np.zeros((1, 3), np.float32),)] * 40
    assert len(KeptSamples.of(blank + numbered(3, 3))) == 3  # the first of the numbered ones is blank too


def test_large_samples_are_kept_in_smaller_number() -> None:
    size = BUDGET // 4 // 20  # bytes of float32: twenty of them fill the budget
    assert len(KeptSamples.of(numbered(40, size))) == 20
    assert len(KeptSamples.of(numbered(40, 20 * size))) == LEAST


def test_the_memory_of_samples_is_bounded() -> None:
    """In any order, and where samples are of several sizes."""
    huge = [(np.broadcast_to(np.float32(n), (1, LIMIT // 4 // 3)),) for n in range(9)]  # three fill it
    sizes = [bytes_of(sample) for sample in (*huge[:1], *numbered(1))]
    assert sizes == [LIMIT // 3 // 4 * 4, 4]
    assert fitting([sizes[0]] * 9) == 3 and fitting([LIMIT + 1] * 9) == 1
    mixed = numbered(30, BUDGET // 4) + numbered(300)
    kept = KeptSamples.of(mixed)
    for others in (mixed[::-1], mixed[150:] + mixed[:150], mixed[::2] + mixed[1::2]):
        assert [x.size for (x,) in KeptSamples.of(others)] == [x.size for (x,) in kept]
    large = [sample[0].size > 1 for sample in sorted(mixed, key=digest)].index(True)
    assert LEAST < len(kept) == large < MOST  # the first large one in the order of the digests fills the budget
    assert sum(x.nbytes for (x,) in kept) <= LIMIT
    assert bytes_of((np.array([["a" * 500], [b"b" * 300]], object),)) == 2 * 8 + 800  # pointers and strings


@pytest.mark.parametrize(
    "needs", [None, range_needs(small_cnn()), mean_needs(small_cnn())], ids=["none", "all", "mean"]
)
def test_single_samples_are_kept_of_batches(needs: StatisticsRequest | None) -> None:
    """A batch is no sample: it would be one figure for all of it, and its memory."""
    data = images(12)
    kept = gather(small_cnn(), data, needs, ReadingOptions(batch_size=4)).samples
    expected = KeptSamples.of((data[n : n + 1],) for n in range(12))
    assert [x.tolist() for (x,) in kept] == [x.tolist() for (x,) in expected]
    assert all(x.base is None for (x,) in kept)  # no part of a batch that would stay with it


def test_inputs_that_all_samples_share_are_not_cut() -> None:
    specs = [InputSpec("x", (-1, 3), "float32"), InputSpec("mask", (2, 5), "float32")]
    x, mask = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 5), np.float32)
    cut = list(singles([Batch((x, mask), np.array([7, 8]), 4)], specs))
    assert [(batch.first, batch.count, int(np.sum(batch.labels))) for batch in cut] == [(4, 1, 7), (5, 1, 8)]
    assert [batch.inputs[0].tolist() for batch in cut] == [x[:1].tolist(), x[1:].tolist()]
    assert all(batch.inputs[1] is mask for batch in cut)


def test_what_was_left_out_is_said_when_the_data_is_read_again(tmp_path: Path) -> None:
    graph = small_cnn()
    fixed = tuple(
        replace(t, shape_signature=(4, *t.shape[1:]), shape=(4, *t.shape[1:])) for t in graph.main.tensors[:1]
    )
    graph = replace(graph, subgraphs=(replace(graph.main, tensors=(*fixed, *graph.main.tensors[1:])),))
    spool = Spool(tmp_path)
    once, needs = (row[None] for row in images(11)), mean_needs(graph)
    first = gather(graph, once, needs, ReadingOptions(), spool=spool).statistics
    again = gather(graph, spool, needs, ReadingOptions()).statistics
    assert first is not None and again is not None
    assert first.warnings == again.warnings and again.warnings[0].startswith("3 samples were left out")


def test_channels_that_only_the_reader_knows() -> None:
    """After a RESHAPE whose target is computed, the file knows no sizes."""
    weight = np.eye(5, 7, dtype=np.float32)
    tensors = (
        Tensor("x", (1, 3, 7), "float32", (-1, 3, 7)),
        Tensor("target", (2,), "int32", data=np.array([-1, 7], np.int32)),
        Tensor("rows", (1, 1), "float32", (-1, -1)),
        Tensor("w", weight.shape, "float32", data=weight),
        Tensor("y", (1, 5), "float32", (-1, 5)),
        Tensor("z", (1, 5), "float32", (-1, 5)),
    )
    ops = (
        Op("RESHAPE", (0, 1), (2,), Options("ReshapeOptions", {"newShape": np.array([-1, 7], np.int32)})),
        Op("FULLY_CONNECTED", (2, 3, -1), (4,), Options("FullyConnectedOptions", DENSE)),
        Op("RELU", (4,), (5,)),
    )
    graph = Graph((Subgraph("main", tensors, ops, (0,), (5,)),))
    data = np.random.default_rng(0).normal(size=(4, 3, 7)).astype(np.float32)
    needs = StatisticsRequest(means=((0, 2), (0, 4)), absmax=((0, 2), (0, 4)))
    found = calibrate(graph, batches(data), needs)
    rows = data.reshape(-1, 7)
    np.testing.assert_allclose(found.means[0, 2], rows.mean(0), atol=1e-6)  # float32 sums
    np.testing.assert_array_equal(found.absmax[0, 2], np.abs(rows).max(0))
    np.testing.assert_allclose(found.absmax[0, 4], np.abs(rows[:, :5]).max(0), rtol=1e-6)
