"""The minimum cut against trying every labelling."""

import itertools
import random

import pytest

from support.graphs import small_cnn
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Graph, Op, Subgraph, Tensor
from tfq_converters.kernels import costs
from tfq_converters.operators.integer_kernels import OPS
from tfq_fine import quantize
from tfq_fine.calibration.statistics import Range, Statistics
from tfq_fine.placement import float_islands as placement
from tfq_fine.placement.float_islands import place
from tfq_fine.planning import Decision, Plan, Policy
from tfq_fine.request.specs import ActivationSpec, OpSpec, WeightSpec

INTEGER = OpSpec("integer", WeightSpec(), ActivationSpec(8))


def integer(count: int) -> Plan:
    return Plan({(0, o): Decision(INTEGER) for o in range(count)})


def random_graph(rng: random.Random, count: int) -> Graph:
    tensors = [Tensor("x", (1, 4), "float32")]
    ops = []
    for n in range(count):
        inputs = tuple(rng.randrange(len(tensors)) for _ in range(2))
        tensors.append(Tensor(f"t{n}", (1, 4), "float32"))
        ops.append(Op("ADD", inputs, (len(tensors) - 1,)))
    return Graph((Subgraph("main", tuple(tensors), tuple(ops), (0,), (len(tensors) - 1,)),))


def total(graph: Graph, integers: set[int], prices: dict[tuple[int, str], float], conversion: float) -> float:
    """The cost of a labelling, straight from its definition."""
    main = graph.main
    cost = sum(prices[o, "int8" if o in integers else "float32"] for o in range(len(main.ops)))
    for t in range(len(main.tensors)):
        writer = next((o for o, op in enumerate(main.ops) if t in op.outputs), None)
        readers = [o for o, op in enumerate(main.ops) if t in op.inputs]
        if writer in integers:
            cost += conversion * (t in main.outputs or any(o not in integers for o in readers))
        else:
            cost += conversion * any(o in integers for o in readers)
    return cost


@pytest.mark.parametrize("seed", range(12))
def test_the_cut_is_the_cheapest_labelling(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    graph = random_graph(rng, 7)
    ops = graph.main.ops
    prices = {(o, kind): rng.uniform(1, 100) for o in range(len(ops)) for kind in ("float32", "int8")}
    monkeypatch.setattr(costs, "cost", lambda op, main, kind, table=None: prices[ops.index(op), kind])
    monkeypatch.setattr(costs, "conversion", lambda tensor, code, table=None: 20.0)
    monkeypatch.setattr(placement, "WORTHWHILE", 0.0)
    monkeypatch.setattr(placement, "WORTHWHILE_NS", 0.0)
    statistics = Statistics({(0, t): Range(-1.0, 1.0) for t in range(len(graph.main.tensors))}, 1)
    plan = place(graph, integer(len(ops)), statistics, Policy()).plan
    chosen = {o for (_, o), decision in plan.items() if decision.spec is not None}
    everything = set(range(len(ops)))
    best = min(
        total(graph, set(some), prices, 20.0)
        for n in range(len(ops) + 1)
        for some in itertools.combinations(everything, n)
    )
    if best < total(graph, everything, prices, 20.0):
        assert total(graph, chosen, prices, 20.0) == pytest.approx(best, rel=1e-5)  # capacities are rounded to integers
    else:
        assert chosen == everything


@pytest.mark.parametrize("options", [(Policy("size"),), (Policy(), True)], ids=["size", "integer"])
def test_no_islands_for_speed_when_not_wanted(options: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_graph(random.Random(0), 4)
    monkeypatch.setattr(costs, "cost", lambda op, main, kind, table=None: 1e3 if kind == "float32" else 1e6)
    statistics = Statistics({(0, t): Range(-1.0, 1.0) for t in range(len(graph.main.tensors))}, 1)
    plan = integer(4)
    assert all(decision.spec == INTEGER for decision in place(graph, plan, statistics, *options).plan.values())
    assert any(decision.spec is None for decision in place(graph, plan, statistics, Policy()).plan.values())


def test_an_additive_mask_stays_out_of_integers() -> None:
    """scores + mask -> reshape -> softmax: -1e9 leaves no step for scores within [-3, 3]."""
    shape = (1, 4)
    tensors = tuple(Tensor(name, shape, "float32") for name in ("scores", "mask", "sum", "again", "out"))
    ops = (Op("ADD", (0, 1), (2,)), Op("RESHAPE", (2,), (3,)), Op("SOFTMAX", (3,), (4,)), Op("RELU", (0,), (1,)))
    graph = Graph((Subgraph("main", tensors, ops, (0,), (4,)),))
    assert OPS["ADD"].int8 and OPS["SOFTMAX"].int8
    ranges = [Range(-3, 3), Range(-1e9, 0), Range(-1e9, 3), Range(-1e9, 3), Range(0, 1)]
    statistics = Statistics({(0, t): r for t, r in enumerate(ranges)}, 1)
    plan = place(graph, integer(4), statistics, Policy("size")).plan
    assert [plan[0, o].spec is None for o in range(4)] == [True, True, True, False]
    assert "one step of sum would exceed the range of scores" in plan[0, 2].reason


@pytest.mark.parametrize(("recipe", "told"), [("weight_only_int4", True), ("weight_only_int8", False)])
def test_users_are_told_where_weights_of_few_bits_are_slow(recipe, told):
    content = write(small_cnn())
    report = quantize(content, recipe).report
    notes = [note for note in report.notes if "by no fast kernel" in note]
    assert bool(notes) == told
    if told:
        assert "CONV_2D 3.0, DEPTHWISE_CONV_2D 1.9, FULLY_CONNECTED 3.6" in notes[0]  # as kernels.json has them
