"""How many parts of a network become float, which ones, and what is counted to decide it."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

import tfq_fine as tfq
from support.graphs import RELU
from support.nets import Net
from tfq_converters.flatbuffer import write
from tfq_converters.graph import Graph, Options
from tfq_converters.runtime import Runner
from tfq_fine.variants.float_parts import Aim, Candidate, Search, parts
from tfq_fine.variants.islands import OFF_POINTS
from tfq_fine.variants.judging import CLASSES, DECISIONS, VALUES, Apart, Measured, uses
from tfq_fine.variants.variant import Variant


def hourglass() -> Graph:
    """Twelve convolutions with 40 channels between them, but 2 after the fifth and the eighth."""
    net = Net(1, 8, 8, 3)
    x = 0
    for n in range(12):
        x = net.conv(x, 2 if n in (4, 7) else 40, RELU)
    return net.graph(x)


def test_parts_are_cut_at_narrow_places() -> None:
    found = parts(hourglass().main, range(12), 3)
    assert [sorted(part) for part in found] == [[0, 1, 2, 3, 4], [5, 6, 7], [8, 9, 10, 11]]
    assert parts(hourglass().main, [1, 4, 7], 3) == [{1}, {4}, {7}]  # no more than one operator each
    assert sorted(chain(*parts(hourglass().main, [2, 3, 5, 8, 9, 11], 4))) == [2, 3, 5, 8, 9, 11]


class Simulated(Search):
    """Files whose errors add up: operator o brings noise[o] in integers, and costs time[o] in float."""

    def __init__(self, noise: np.ndarray, time: np.ndarray, enough: float, longest: float = 1e9):
        self.noise, self.time = noise, time
        aim = Aim(lambda m: m.db >= -enough, lambda m: -m.db, longest)
        super().__init__(None, Variant(hourglass(), {}), aim, "why", "dynamic")  # type: ignore[arg-type]

    def _candidate(self, variant: Variant) -> Candidate:
        left = sum(self.noise[o] for o in range(len(self.noise)) if o not in variant.islands)
        return Candidate(variant, 1.0 + sum(self.time[o] for o in variant.islands), Measured((-left,)))


@pytest.mark.parametrize("seed", range(8))
def test_the_quickest_of_all_orders_is_found(seed: int) -> None:
    """The fewest first parts of each order that are enough, counted one by one."""
    rng = np.random.default_rng(seed)
    noise, time = rng.uniform(0, 1, 14) ** 4, rng.uniform(100, 1000, 14)
    enough = 0.3 * noise.sum()
    search = Simulated(noise, time, enough)
    best = search.quickest([frozenset({o}) for o in range(14)])
    costs = []
    for order in (np.argsort(-noise / time), np.arange(14), np.arange(14)[::-1]):
        left = noise.sum() - np.cumsum(noise[order])
        costs.append(1.0 + np.cumsum(time[order])[np.argmax(left <= enough)])
    assert best is not None
    assert min(costs) - 1e-9 <= best.time <= costs[0] + 1e-9  # an order is given up where it is slower half-way
    assert search.tries < 32  # of 16,384 sets of parts


def test_nothing_is_taken_that_is_too_slow_or_not_enough() -> None:
    ones = np.ones(6)
    pieces = [frozenset({o}) for o in range(6)]
    assert Simulated(ones, ones, enough=2.5, longest=4.0).quickest(pieces) is None  # four would be needed
    found = Simulated(ones, ones, enough=2.5, longest=5.0).quickest(pieces)
    assert found is not None and found.time == 5.0
    never = Simulated(ones, ones, enough=-1.0)
    assert never.quickest(pieces) is None
    assert never.tries == 1  # all of it is not enough: nothing else is run


def two_heads(weights: float = 0.6) -> Graph:
    """A chain that loses something at every step, and two regressed outputs."""
    net = Net(1, 16)
    x = 0
    for n in range(8):
        x = net.dense(x, 24, RELU if n % 2 else 0)
        net.tensors[net.ops[-1].inputs[1]] = replace(
            net.tensors[net.ops[-1].inputs[1]],
            data=(spread(net.rng, 24, net.shape(net.ops[-1].inputs[0])[-1], weights)),
        )
    return net.graph(net.dense(x, 5), net.dense(x, 3))


def spread(rng: np.random.Generator, outputs: int, inputs: int, power: float) -> np.ndarray:
    """A weight with values of several sizes in each row."""
    data = rng.normal(size=(outputs, inputs)) * np.exp(power * rng.normal(size=(outputs, inputs)))
    return (data / np.sqrt(np.square(data).sum(axis=1, keepdims=True))).astype(np.float32)


def samples(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)


def points(content: bytes, graph: Graph, data: np.ndarray) -> float:
    """The mean error in percent of the range, of the worse output."""
    sides = [[file.run([row[None]]) for row in data] for file in (Runner(write(graph)), Runner(content))]
    found = []
    for k in range(2):
        x, y = (np.concatenate([row[k] for row in side]) for side in sides)
        found.append(100 * np.abs(x - y).mean() / (x.max() - x.min()))
    return float(max(found))


def test_a_chain_that_is_shaken_all_over_is_fed_floats() -> None:
    graph, data = two_heads(), samples(80, 0)
    without = tfq.quantize(write(graph), "full_int8", data, prefer="size", transforms=None)
    result = tfq.quantize(write(graph), "full_int8", data, prefer="size")
    fresh = samples(100, 1)
    assert points(without.content, graph, fresh) > 3 * OFF_POINTS
    assert points(result.content, graph, fresh) < OFF_POINTS
    row = next(row for row in result.report.transforms if row.name == "islands")
    assert row.applied and "points off without" in row.text and "of float without" in row.text
    assert {r.mode for r in result.report.rows} == {
        "integer",
        "weight_only",
    }  # dynamic range is slower in ones so small
    assert len(result.content) <= len(without.content)
    assert without.report.poor_outputs() and not result.report.poor_outputs()


@pytest.mark.parametrize("options", [{"runtimes": "ethos-u"}, {"input_type": "int8", "output_type": "int8"}])
def test_who_takes_no_float_gets_none(options: dict) -> None:
    result = tfq.quantize(
        write(two_heads()), "full_int8", samples(40, 0), prefer="size", transforms="islands", **options
    )
    row = next(row for row in result.report.transforms if row.name == "islands")
    assert not row.applied and "points off, but" in row.text
    assert {r.mode for r in result.report.rows} == {"integer"}
    assert any("points off" in warning for warning in result.report.poor_outputs())


def test_the_order_of_the_data_decides_nothing() -> None:
    data = samples(60, 0)
    first, second = (tfq.quantize(write(two_heads()), "full_int8", x).content for x in (data, data[::-1]))
    assert first == second


def test_what_outputs_are_for() -> None:
    net = Net(1, 9)
    scores = net.dense(0, 4)
    softmax = net.add("SOFTMAX", (scores,), (1, 4), Options("SoftmaxOptions", {"beta": 1.0}))
    logistic = net.simple("LOGISTIC", scores)
    moved = net.reshape(logistic, 1, 2, 2)
    assert uses(net.graph(softmax, moved, scores)) == [CLASSES, DECISIONS, VALUES]
    assert uses(net.graph(scores)) == [CLASSES]  # the only output


@pytest.mark.parametrize(
    ("use", "expected", "found", "off"),
    [
        (VALUES, [[0.0, 4.0, 2.0]], [[0.0, 4.1, 2.2]], 2.5),  # a mean of 0.1 in a range of 4
        (DECISIONS, [[0.2, 0.9, 0.4]], [[0.2, 0.6, 0.4]], 10.0),  # three tell too little: the mean error
        (DECISIONS, np.full((500, 4), [0.4, 0.6, 0.9, 0.1]), np.full((500, 4), [0.6, 0.6, 0.9, 0.1]), 25.0),
        (DECISIONS, np.full((2000, 2), [0.4, 0.6]), np.full((2000, 2), [0.45, 0.55]), 0.0),  # classes at many places
        (CLASSES, [[0.2, 0.8], [0.7, 0.3]], [[0.6, 0.4], [0.9, 0.1]], 50.0),
        (VALUES, [[1.0, 2.0]], [[np.nan, 2.0]], np.inf),
    ],
)
def test_points(use: str, expected: list, found: list, off: float) -> None:
    x, y = np.array(expected), np.array(found)
    assert Apart(use).also(x, y).points == pytest.approx(off)
    halves = Apart(use).also(x[: len(x) // 2], y[: len(x) // 2]).also(x[len(x) // 2 :], y[len(x) // 2 :])
    assert halves.points == pytest.approx(off)
