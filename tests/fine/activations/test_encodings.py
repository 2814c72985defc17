"""Which tensors share a scale, what a constant does to it, and masks before SOFTMAX."""

import numpy as np
import pytest

from tfq_converters.graph import Graph, Op, Subgraph, Tensor
from tfq_fine.activations.attention_masks import bounded
from tfq_fine.activations.choose_encodings import encodings
from tfq_fine.calibration.statistics import Range, Statistics
from tfq_fine.planning import Decision, Plan, index_movers
from tfq_fine.request.specs import ActivationSpec, OpSpec, WeightSpec
from tfq_fine.weights import constant_codes

LOWEST = float(np.finfo(np.float32).min)


def floats(*names: str) -> list[Tensor]:
    return [Tensor(name, (2, 5), "float32") for name in names]


def constant(value: float) -> Tensor:
    return Tensor("c", (), "float32", data=np.array(value, np.float32))


def graph_of(tensors: list[Tensor], ops: list[Op], inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Graph:
    return Graph((Subgraph("main", tuple(tensors), tuple(ops), inputs, outputs),))


def integer(graph: Graph, bits: int = 8) -> Plan:
    return Plan({key: Decision(OpSpec("integer", WeightSpec(), ActivationSpec(bits))) for key, _ in graph.ops()})


def test_a_shared_constant_ties_nothing():
    tensors = [*floats("x", "y", "a", "b"), constant(0.0)]
    graph = graph_of(tensors, [Op("MAXIMUM", (0, 4), (2,)), Op("MAXIMUM", (1, 4), (3,))], (0, 1), (2, 3))
    ranges = {(0, 0): Range(-1, 1), (0, 1): Range(-100, 100), (0, 2): Range(0, 1), (0, 3): Range(0, 100)}
    found = encodings(graph, integer(graph), Statistics(ranges))
    assert found.inputs[0, 0][0].scale == pytest.approx(1 / 127)
    assert found.inputs[0, 1][0].scale == pytest.approx(100 / 127)
    assert found.inputs[0, 0][1] == found.inputs[0, 0][0] == found.outputs[0, 0][0]
    assert found.inputs[0, 1][1] == found.inputs[0, 1][0] == found.outputs[0, 1][0]


@pytest.mark.parametrize("code", ["MINIMUM", "SELECT_V2"])
def test_a_constant_that_is_never_chosen_widens_nothing(code):
    tensors = [*floats("x", "out"), constant(1e12), Tensor("mask", (2, 5), "bool")]
    op = Op(code, (0, 2), (1,)) if code == "MINIMUM" else Op(code, (3, 0, 2), (1,))
    graph = graph_of(tensors, [op], (0, 3), (1,))
    found = encodings(graph, integer(graph), Statistics({(0, 0): Range(0, 4), (0, 1): Range(0, 4)}))
    assert found.outputs[0, 0][0].scale == pytest.approx(4 / 255)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["limited", "read-elsewhere"])
def test_what_limits_cut_off_takes_no_codes(elsewhere: bool):
    """A sum, MINIMUM(.., 1), MAXIMUM(.., 0): only from 0 to 1, unless the sum itself is an output."""
    tensors = [*floats("x", "sum", "low", "out"), constant(1.0), constant(0.0)]
    ops = [Op("ADD", (0, 0), (1,)), Op("MINIMUM", (1, 4), (2,)), Op("MAXIMUM", (2, 5), (3,))]
    graph = graph_of(tensors, ops, (0,), (3, 1) if elsewhere else (3,))
    ranges = {(0, 0): Range(-2, 3), (0, 1): Range(-4, 6), (0, 2): Range(-4, 1), (0, 3): Range(0, 1)}
    found = encodings(graph, integer(graph), Statistics(ranges))
    assert found.outputs[0, 0][0] == found.outputs[0, 2][0]
    assert found.outputs[0, 0][0].scale == pytest.approx((10 if elsewhere else 1) / 255)


def test_a_constant_that_is_always_in_the_result_widens_it():
    graph = graph_of([*floats("x", "out"), constant(9.0)], [Op("CONCATENATION", (0, 2), (1,))], (0,), (1,))
    found = encodings(graph, integer(graph), Statistics({(0, 0): Range(0, 4), (0, 1): Range(0, 4)}))
    assert found.outputs[0, 0][0].scale == pytest.approx(9 / 255)


def test_what_fills_with_code_0_gets_zero_point_0():
    graph = graph_of(floats("x", "out"), [Op("MATRIX_DIAG", (0,), (1,))], (0,), (1,))
    found = encodings(graph, integer(graph), Statistics({(0, 0): Range(0, 4), (0, 1): Range(0, 4)}))
    assert found.inputs[0, 0][0] == found.outputs[0, 0][0]
    assert found.outputs[0, 0][0].zero_point == 0


def test_a_positive_limit_is_never_code_0():
    encoding = encodings(*_one_unary()).outputs[0, 0][0]
    tiny = np.array(1e-7, np.float32)
    assert constant_codes(tiny, encoding).codes == encoding.zero_point
    assert constant_codes(tiny, encoding, positive=True).codes == encoding.zero_point + 1


def _one_unary() -> tuple[Graph, Plan, Statistics]:
    graph = graph_of(floats("x", "out"), [Op("ABS", (0,), (1,))], (0,), (1,))
    return graph, integer(graph), Statistics({(0, 0): Range(-3, 4), (0, 1): Range(0, 4)})


def masked(lowest: float, between: tuple[str, ...] = ()) -> Graph:
    """SELECT_V2 of scores or a constant, perhaps moved, then SOFTMAX."""
    tensors = [Tensor("mask", (2, 5), "bool"), constant(lowest), *floats("scores", "s0")]
    ops = [Op("SELECT_V2", (0, 2, 1), (3,))]
    for code in (*between, "SOFTMAX"):
        tensors += floats(f"s{len(ops)}")
        ops.append(Op(code, (len(tensors) - 2,), (len(tensors) - 1,)))
    return graph_of(tensors, ops, (0, 2), (len(tensors) - 1,))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("between", [(), ("RESHAPE",)])
def test_a_mask_reaches_as_far_as_softmax_can_tell(bits, between):
    graph = masked(LOWEST, between)
    ranges = {(0, t): Range(LOWEST, 2) for t in range(3, 4 + len(between))} | {(0, 2): Range(-1, 2)}
    found = bounded(graph, integer(graph, bits), Statistics(ranges)).ranges
    (low,) = {found[0, t].low for t in range(3, 4 + len(between))}
    scores = np.array([-1.0] + [low] * 4)  # a single score, the smallest, next to masked ones
    share = 1 - 1 / np.exp(scores - scores.max()).sum()
    assert 0.2 / 2**bits < share < 0.5 / 2**bits  # of less than half a step, and no further than that needs


def test_what_is_no_mask_keeps_its_range():
    statistics = Statistics({(0, 2): Range(-1, 2), (0, 3): Range(-3, 2)})
    graph = masked(-3.0)
    assert bounded(graph, integer(graph), statistics).ranges == statistics.ranges


def test_a_mask_that_something_else_reads_keeps_its_range():
    graph = masked(LOWEST, ("EXP",))
    statistics = Statistics({(0, 2): Range(-1, 2), (0, 3): Range(LOWEST, 2)})
    assert bounded(graph, integer(graph), statistics).ranges == statistics.ranges


@pytest.mark.parametrize("mover", ["RESHAPE", "PAD", "GATHER"])
@pytest.mark.parametrize(("origin", "kept"), [("CAST", {1}), ("MUL", set())])
def test_indices_in_float_are_not_rounded(origin, kept, mover):
    """What moves an index from integers to integers is kept; what computes one from floats is like any other."""
    first = Tensor("i", (2, 5), "int32" if origin == "CAST" else "float32")
    tensors = [first, *floats("f", "moved"), Tensor("j", (2, 5), "int64")]
    ops = [
        Op(origin, (0,) if origin == "CAST" else (0, 0), (1,)),
        Op(mover, (1,), (2,)),
        Op("CAST", (2,), (3,)),
    ]
    assert index_movers(graph_of(tensors, ops, (0,), (3,)).main) == kept
