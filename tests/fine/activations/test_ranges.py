"""Which observer chooses the range of which activation, and what `auto` looks at."""

from dataclasses import replace

import numpy as np
import pytest

import tfq_fine as tfq
from support.graphs import DENSE, images, small_cnn
from tfq_converters import flatbuffer
from tfq_converters.graph import Graph, Op, Options, Subgraph, Tensor
from tfq_converters.kernels.queries import Target
from tfq_fine.activations.observed_ranges import chosen, observer_needs
from tfq_fine.activations.search_ranges import best_ranges, counted
from tfq_fine.calibration import calibrate, range_needs
from tfq_fine.calibration.observers import OBSERVERS
from tfq_fine.calibration.statistics import Range, Statistics
from tfq_fine.data import batches, input_specs
from tfq_fine.numerics.histogram import Histogram
from tfq_fine.planning import Plan, Policy, make_plan
from tfq_fine.report.activations import binned
from tfq_fine.request.recipe import Recipe

INT8 = tfq.RECIPES["full_int8"]
DATA = images(40)


def planned(graph: Graph, recipe: Recipe) -> Plan:
    return make_plan(graph, recipe.resolve(graph), Policy("speed", True, Target()))


def observed(graph: Graph, plan: Plan, data: np.ndarray) -> Statistics:
    needs = range_needs(graph).also(observer_needs(graph, plan))
    return calibrate(graph, batches(data, input_specs(graph)), needs)


def rule(observer: str, op: str) -> tfq.Rule:
    assert INT8.default is not None
    return tfq.Rule(replace(INT8.default, activations=tfq.ActivationSpec(8, observer)), op=op)


@pytest.mark.parametrize("name", OBSERVERS)
def test_one_observer_for_all(name: str) -> None:
    graph, recipe = small_cnn(), INT8.with_observer(name)
    plan = planned(graph, recipe)
    statistics = observed(graph, plan, DATA)
    found = chosen(graph, plan, statistics)
    for key, whole in statistics.ranges.items():
        assert whole.low <= found.ranges[key].low and found.ranges[key].high <= whole.high
    assert (found.ranges == statistics.ranges) == (name in ("min_max", "auto"))  # no sample is unlike the others
    assert bool(statistics.histograms) == (OBSERVERS[name].reads == "histogram")  # nothing that no observer needs
    assert bool(statistics.moving) == (OBSERVERS[name].reads == "moving")


def test_a_rule_decides_for_what_its_operator_computes() -> None:
    graph = small_cnn()
    recipe = INT8.with_rules(rule("percentile", "CONV_2D"))
    plan = planned(graph, recipe)
    statistics = observed(graph, plan, DATA)
    assert set(statistics.histograms) == {(0, 3), (0, 0)} - {(0, 0)} | {(0, 0)}  # what the convolution makes and reads
    found = chosen(graph, plan, statistics)
    changed = {key for key in statistics.ranges if found.ranges[key] != statistics.ranges[key]}
    assert changed == {(0, 0), (0, 3)}


def test_options_reach_the_observer() -> None:
    graph = small_cnn()
    plan = planned(graph, INT8.with_observer("percentile:percentile=90,fence=0"))
    statistics = observed(graph, plan, DATA)
    low, high = chosen(graph, plan, statistics).ranges[0, 0]
    histogram = statistics.histograms[0, 0]
    assert (low, high) == (histogram.quantile(0.1), histogram.quantile(0.9))


def test_recipes_with_observers_are_json() -> None:
    recipe = INT8.with_observer("percentile:lower=1,upper=99").with_rules(rule("auto", "SOFTMAX"))
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    ("observer", "message"),
    [
        ("median", "unknown observer 'median'; known: min_max, moving_average, percentile"),
        ("mse:p=3", "observer 'mse' has no option 'p'; it has fence"),
        ("percentile:percentile=150", "observer 'percentile' has percentile=150: expected 50 to 100"),
        ("percentile:p=high", "cannot be read; expected a name, or NAME:OPTION=NUMBER"),
    ],
)
def test_bad_observers(observer: str, message: str) -> None:
    with pytest.raises(tfq.TfqError, match=message):
        tfq.quantize(flatbuffer.write(small_cnn()), "full_int8", DATA, observer=observer)


def test_a_recipe_without_activations_has_no_use_for_an_observer() -> None:
    with pytest.raises(tfq.TfqError, match="'dynamic_int8' fixes no ranges of activations"):
        tfq.quantize(flatbuffer.write(small_cnn()), "dynamic_int8", observer="mse")


def test_statistics_without_what_an_observer_reads() -> None:
    content = flatbuffer.write(small_cnn())
    plain = tfq.calibrate(content, DATA)
    with pytest.raises(tfq.TfqError, match="'entropy' of images reads a histogram statistic, which these"):
        tfq.quantize(content, "full_int8", statistics=plain, observer="entropy")
    counted = tfq.calibrate(content, DATA, observer="entropy")
    options = {"observer": "mse", "transforms": None}  # which data decides about
    given = tfq.quantize(content, "full_int8", statistics=counted, **options)
    assert given.content == tfq.quantize(content, "full_int8", DATA, **options).content


def test_the_report_shows_seen_and_chosen_ranges() -> None:
    report = tfq.quantize(
        flatbuffer.write(small_cnn()), "full_int8", DATA, observer="mean_std:deviations=1", transforms=None
    ).report
    row = report.activations[0]
    assert (row.name, row.observer) == ("images", "mean_std")
    values = DATA.astype(np.float64)
    np.testing.assert_allclose((row.seen_low, row.seen_high), (values.min(), values.max()), rtol=1e-6)
    # all 297 values of an image are sampled; they are rounded to 8 bits
    np.testing.assert_allclose(row.high, values.mean() + values.std(), rtol=0.01)
    assert len(row.shares) == 64 and sum(row.shares) == pytest.approx(1)
    inside = (row.seen_low <= DATA) & (row.seen_low + (row.seen_high - row.seen_low) / 2 > DATA)
    assert sum(row.shares[:32]) == pytest.approx(inside.mean(), abs=0.01)  # values are rounded to 8 bits
    assert "Ranges of activations" in report.table(all=True)
    by_default = tfq.quantize(flatbuffer.write(small_cnn()), "full_int8", DATA).report
    assert by_default.activations[0].observer == "auto" and by_default.activations[0].shares  # pictures by default too


def dense_clip(weight: np.ndarray) -> Graph:
    """x -> dense, fused RELU6."""
    tensors = (
        Tensor("x", (1, weight.shape[1]), "float32", (-1, weight.shape[1])),
        Tensor("w", weight.shape, "float32", data=weight),
        Tensor("y", (1, len(weight)), "float32", (-1, len(weight))),
    )
    op = Op(
        "FULLY_CONNECTED", (0, 1, -1), (2,), Options("FullyConnectedOptions", DENSE | {"fusedActivationFunction": 3})
    )
    return Graph((Subgraph("main", tensors, (op,), (0,), (2,)),))


def auto_range(graph: Graph, data: np.ndarray) -> tuple[Range, Range]:
    """(whole, chosen by auto) of the input."""
    plan = planned(graph, INT8.with_observer("auto"))
    statistics = observed(graph, plan, data)
    samples = [(row[None],) for row in data[:: -(-len(data) // 8)]]
    histograms = counted(graph, plan, samples)
    found = best_ranges(graph, plan, statistics, chosen(graph, plan, statistics), samples, histograms)
    return statistics.ranges[0, 0], found.ranges[0, 0]


def test_auto_leaves_accidents_out_and_keeps_what_is_common() -> None:
    rng = np.random.default_rng(3)
    data = rng.normal(size=(100, 511)).astype(np.float32)
    eye = np.eye(511, dtype=np.float32)
    data[13] *= 50
    whole, cut = auto_range(dense_clip(eye), data)
    assert whole.high > 100 and 3 < cut.high < 6
    data[:, 0] = 200 * (np.arange(100) % 10 < 3)  # in 30 of 100 samples, the first three among those looked at
    assert auto_range(dense_clip(eye * 1e-3), data)[1].high == pytest.approx(200, rel=0.01)


@pytest.mark.parametrize("tail", [1.5, 3.0, 30.0])
def test_auto_cuts_long_tails_and_is_never_worse_than_the_whole_range(tail: float) -> None:
    """Its own criterion, in NumPy: the relative error of each sample's outputs."""
    rng = np.random.default_rng(4)
    data = (rng.standard_t(tail, size=(200, 37)) * rng.uniform(0.2, 2, 37)).astype(np.float32)
    graph, looked_at = dense_clip(rng.normal(size=(23, 37)).astype(np.float32) / 6), data[::25]
    expected = np.clip(looked_at.astype(np.float64) @ graph.main.tensors[1].data.T.astype(np.float64), 0, 6)

    def error(found: Range) -> float:
        scale = np.float32(found.extent / 255)
        zero = np.rint(-128 - min(found.low, 0) / scale)
        rounded = (np.clip(np.rint(looked_at / scale) + zero, -128, 127) - zero) * scale
        squared = np.square(np.clip(rounded @ graph.main.tensors[1].data.T, 0, 6) - expected).sum(1)
        return float(np.minimum(squared / np.square(expected).sum(1), 1).mean())

    whole, found = auto_range(graph, data)
    # 2 %: what must be gained before the whole range is left; the rest is float32
    assert error(found) <= 1.021 * error(whole)
    assert tail > 2 or error(found) < 0.5 * error(whole)


def test_an_activation_that_hardly_varies_has_a_picture_too() -> None:
    found = binned(Histogram.of(np.full(7, 50.0, np.float32)), 49.999996, 50.000004)
    assert sum(found) == pytest.approx(1)
    assert binned(Histogram.of(np.zeros(3, np.float32)), 0.0, 0.0) == ()
