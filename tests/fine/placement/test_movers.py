"""Operators that only move values follow their neighbours."""

import numpy as np
import pytest

from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Graph, Op, Options, Subgraph, Tensor
from tfq_converters.runtime.runner import Runner
from tfq_fine.api import quantize
from tfq_fine.placement.movers import FOLLOWS

SHAPE = Tensor("shape", (2,), "int32", data=np.array([-1, 4], np.int32))
RESHAPE = Options("ReshapeOptions", {"newShape": [-1, 4]})
DATA = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)


def graph(*ops: Op) -> Graph:
    """Operators that write tensors 2, 3, ... in order; tensor 0 is the input, tensor 1 the shape of RESHAPE."""
    tensors = (
        Tensor("x", (1, 8), "float32"),
        SHAPE,
        *(Tensor(op.layer, (1, 8) if op.inputs == (0,) else (2, 4), "float32") for op in ops),
    )
    return Graph((Subgraph("main", tensors, ops, (0,), (len(tensors) - 1,)),))


def modes(made: Graph, **asked: str) -> dict[str, str]:
    result = quantize(write(made), "full_int8", data=DATA, prefer="size", **asked)  # type: ignore[arg-type]
    return {row.layer: row.mode for row in result.report.rows}


def moved(source: int, target: int, name: str) -> Op:
    return Op("RESHAPE", (source, 1), (target,), RESHAPE, layer=name)


def test_a_move_between_float_operators_is_exact() -> None:
    """SIN and COS have no integer kernel; the RESHAPE between them was int8."""
    made = graph(
        Op("SIN", (0,), (2,), layer="sin"), moved(2, 3, "a"), moved(3, 4, "b"), Op("COS", (4,), (5,), layer="cos")
    )
    result = quantize(write(made), "full_int8", data=DATA, prefer="size")
    rows = {row.layer: row for row in result.report.rows}
    assert rows["a"].mode == rows["b"].mode == "float"
    assert rows["a"].reason == FOLLOWS
    np.testing.assert_array_equal(Runner(result.content).run([DATA[:1]])[0], Runner(write(made)).run([DATA[:1]])[0])


def test_a_move_that_integers_read_too_stays_float_for_the_float_reader() -> None:
    made = graph(
        Op("SIN", (0,), (2,), layer="sin"),
        moved(2, 3, "a"),
        Op("COS", (3,), (4,), layer="cos"),
        Op("TANH", (3,), (5,), layer="tanh"),
    )
    assert modes(made) == {"sin": "float", "a": "float", "cos": "float", "tanh": "integer"}


@pytest.mark.parametrize("asked", [{}, {"input_type": "int8", "output_type": "int8"}], ids=["float", "int8"])
def test_a_move_next_to_integers_is_in_integers(asked: dict[str, str]) -> None:
    before = graph(Op("TANH", (0,), (2,), layer="tanh"), moved(2, 3, "a"), Op("COS", (3,), (4,), layer="cos"))
    after = graph(Op("SIN", (0,), (2,), layer="sin"), moved(2, 3, "a"), Op("TANH", (3,), (4,), layer="tanh"))
    assert modes(before, **asked)["a"] == "integer"
    assert modes(after, **asked)["a"] == "integer"


def test_a_move_without_a_float_operator_next_to_it_is_in_integers() -> None:
    made = graph(moved(0, 2, "a"))
    assert modes(made)["a"] == "integer"
    assert modes(made, input_type="int8", output_type="int8")["a"] == "integer"
