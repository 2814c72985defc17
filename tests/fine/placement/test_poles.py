"""Divisions, logarithms and reciprocal roots whose input an integer operator would round to 0."""

import numpy as np
import pytest

from tfq_converters.check.noise import sqnr
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Graph, Op, Options, Subgraph, Tensor
from tfq_converters.runtime.runner import Runner
from tfq_fine.api import quantize

WHAT = {"ADD": "AddOptions", "DIV": "DivOptions", "MUL": "MulOptions"}


def _op(code: str, *tensors: int) -> Op:
    options = Options(WHAT[code], {"fusedActivationFunction": 0}) if code in WHAT else None
    return Op(code, tensors[:-1], tensors[-1:], options)


def _graph(ops: tuple[Op, ...], shapes: dict[int, tuple[int, ...]], constants: dict[int, float | np.ndarray]) -> Graph:
    tensors = tuple(
        Tensor(f"t{n}", np.shape(constants[n]), np.asarray(constants[n]).dtype.name, data=np.asarray(constants[n]))
        if n in constants
        else Tensor(f"t{n}", shapes[n], "float32")
        for n in range(len(shapes) + len(constants))
    )
    return Graph((Subgraph("main", tensors, ops, (0,), (len(tensors) - 1,)),))


EPSILON = np.array([1e-6], np.float32)


def reciprocal() -> Graph:
    """t5 = 1 / (0.5 * x + 1e-6)."""
    constants = {1: np.array([0.5], np.float32), 3: EPSILON, 5: np.array([1.0], np.float32)}
    ops = (_op("MUL", 0, 1, 2), _op("ADD", 2, 3, 4), _op("DIV", 5, 4, 6))
    return _graph(ops, dict.fromkeys((0, 2, 4, 6), (1, 8)), constants)


def share() -> Graph:
    """t6 = x / (sum(x) + 1e-6), with the sum over the last axis."""
    reduced = Op("SUM", (0, 1), (2,), Options("ReducerOptions", {"keepDims": True}))
    ops = (reduced, _op("ADD", 2, 3, 4), _op("DIV", 0, 4, 5))
    return _graph(ops, {0: (4, 8), 2: (4, 1), 4: (4, 1), 5: (4, 8)}, {1: np.array([1], np.int32), 3: EPSILON})


def negative() -> Graph:
    """t6 = x / (-x - 1e-6): a divisor that comes up to 0 from below."""
    constants = {1: np.array([-1.0], np.float32), 3: -EPSILON}
    ops = (_op("MUL", 0, 1, 2), _op("ADD", 2, 3, 4), _op("DIV", 0, 4, 5))
    return _graph(ops, dict.fromkeys((0, 2, 4, 5), (1, 8)), constants)


def small_values(graph: Graph) -> list[np.ndarray]:
    """Values of four decades, none so small that the epsilon decides alone."""
    rng = np.random.default_rng(0)
    shape = graph.main.tensors[0].shape
    return [(10 ** rng.uniform(-4, 0) * rng.uniform(0.5, 1.5, shape)).astype(np.float32) for _ in range(16)]


@pytest.mark.parametrize("recipe", ["full_int8", "full_int16x8"])
@pytest.mark.parametrize("prefer", ["size", "speed"])
@pytest.mark.parametrize("make", [reciprocal, share, negative])
def test_a_divisor_that_would_be_0_stays_float(make, prefer, recipe) -> None:  # type: ignore[no-untyped-def]
    graph = make()
    content, samples = write(graph), small_values(graph)
    result = quantize(content, recipe, data=np.concatenate(samples), prefer=prefer)
    division = next(row for row in result.report.rows if row.code == "DIV")
    assert division.mode == "float"
    plain, made = Runner(content), Runner(result.content)
    pairs = [(plain.run([sample])[0], made.run([sample])[0]) for sample in samples]
    assert all(np.isfinite(found).all() for _, found in pairs)
    assert sqnr(pairs) > 15  # `share` reads its numerator in int8


def test_the_report_says_why() -> None:
    graph = reciprocal()
    result = quantize(write(graph), "full_int8", data=np.concatenate(small_values(graph)), prefer="size")
    reasons = {row.code: row.reason for row in result.report.rows}
    assert "comes down to" in reasons["ADD"] and "no finite DIV" in reasons["ADD"]
    assert "rounded to 0" in reasons["DIV"]


def test_a_divisor_far_from_0_stays_in_integers() -> None:
    constants = {1: np.array([2.0], np.float32)}
    ops = (_op("ADD", 0, 1, 2), _op("DIV", 0, 2, 3))
    graph = _graph(ops, dict.fromkeys((0, 2, 3), (1, 8)), constants)
    data = np.random.default_rng(0).uniform(0, 1, (16, 8)).astype(np.float32)
    result = quantize(write(graph), "full_int8", data=data, prefer="size")
    assert {row.code: row.mode for row in result.report.rows}["ADD"] == "integer"
