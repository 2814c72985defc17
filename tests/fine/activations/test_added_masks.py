"""Masks that are added to attention scores: they stay in integers, and saturate where SOFTMAX cannot tell."""

from collections.abc import Callable

import numpy as np
import pytest

import tfq_fine as tfq
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Graph, Op, Options, Subgraph, Tensor
from tfq_converters.runtime.runner import Runner
from tfq_fine.activations.attention_masks import bounded
from tfq_fine.calibration.statistics import Range, Statistics
from tfq_fine.planning import Decision, Plan
from tfq_fine.request.recipe import Recipe
from tfq_fine.request.specs import ActivationSpec, OpSpec, WeightSpec

INTEGER = OpSpec("integer", WeightSpec(), ActivationSpec(8))
SHAPE = (1, 5, 13)  # of the scores
FUSED = {"fusedActivationFunction": 0}
ADD, SUB = (
    Options("AddOptions", FUSED | {"potScaleInt16": False}),
    Options("SubOptions", FUSED | {"potScaleInt16": False}),
)
MUL, SOFTMAX = Options("MulOptions", FUSED), Options("SoftmaxOptions", {"beta": 1.0})


def constant(name: str, value: np.ndarray | float) -> Tensor:
    data = np.asarray(value, np.float32)
    return Tensor(name, data.shape, "float32", data=data)


def computed(lowest: float) -> Graph:
    """softmax(scores + (1 - mask) * lowest)"""
    tensors = [Tensor("scores", SHAPE, "float32"), Tensor("mask", (1, 1, 13), "float32")]
    tensors += [constant("one", 1.0), constant("lowest", lowest)]
    tensors += [Tensor("inverse", (1, 1, 13), "float32"), Tensor("added", (1, 1, 13), "float32")]
    tensors += [Tensor("sum", SHAPE, "float32"), Tensor("out", SHAPE, "float32")]
    ops = [Op("SUB", (2, 1), (4,), SUB), Op("MUL", (4, 3), (5,), MUL), Op("ADD", (0, 5), (6,), ADD)]
    ops.append(Op("SOFTMAX", (6,), (7,), SOFTMAX))
    return Graph((Subgraph("main", tuple(tensors), tuple(ops), (0, 1), (7,)),))


def stored(lowest: float) -> Graph:
    """softmax(scores + a constant of 0 and lowest): a causal mask"""
    causal = np.where(np.arange(13) > np.arange(5)[:, None] + 4, lowest, 0.0)[None]
    tensors = [Tensor("scores", SHAPE, "float32"), Tensor("mask", (1, 1, 13), "float32"), constant("causal", causal)]
    tensors += [Tensor("sum", SHAPE, "float32"), Tensor("masked", SHAPE, "float32"), Tensor("out", SHAPE, "float32")]
    ops = [Op("MUL", (0, 1), (3,), MUL), Op("ADD", (2, 3), (4,), ADD), Op("SOFTMAX", (4,), (5,), SOFTMAX)]
    return Graph((Subgraph("main", tuple(tensors), tuple(ops), (0, 1), (5,)),))


def fed(lowest: float) -> Graph:
    """softmax(scores + mask), the mask an input"""
    tensors = [Tensor("scores", SHAPE, "float32"), Tensor("mask", (1, 1, 13), "float32")]
    tensors += [Tensor("sum", SHAPE, "float32"), Tensor("out", SHAPE, "float32")]
    ops = [Op("ADD", (1, 0), (2,), ADD), Op("SOFTMAX", (2,), (3,), SOFTMAX)]
    return Graph((Subgraph("main", tuple(tensors), tuple(ops), (0, 1), (3,)),))


def samples(graph: Graph, lowest: float, count: int = 20) -> list[list[np.ndarray]]:
    """Scores of a few units, and masks of 1 (0 for a mask that is fed) with zeros (the lowest) at their end."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        scores = rng.normal(size=SHAPE).astype(np.float32) * 2
        kept = np.arange(13) < rng.integers(2, 14)
        mask = np.where(kept, 0, lowest) if len(graph.main.ops) == 2 else kept
        found.append([scores, mask.reshape(1, 1, 13).astype(np.float32)])
    return found


@pytest.mark.parametrize("lowest", [-1e4, -1e9])
@pytest.mark.parametrize("made", [computed, stored, fed], ids=lambda made: made.__name__)
def test_all_stays_in_integers_and_right(made: Callable[[float], Graph], lowest: float) -> None:
    graph = made(lowest)
    content, data = write(graph), samples(graph, lowest)
    result = tfq.quantize(content, Recipe("int8", INTEGER), data, prefer="size")  # run on two sets of kernels
    assert {row.mode for row in result.report.rows} == {"integer"}
    before, after = (Runner(file) for file in (content, result.content))
    for sample in samples(graph, lowest, 30):
        (expected,), (found,) = before.run(sample), after.run(sample)
        # half a step of the result, and what half a step of the scores (range below 40 with the mask) does to it
        assert np.abs(expected - found).max() < 0.5 / 256 + 0.25 * 40 / 255 + 0.01
        assert not found[expected == 0].any()  # what is masked in float is masked in integers


def test_without_the_transform_the_mask_stays_float() -> None:
    graph = computed(-1e9)
    result = tfq.quantize(write(graph), Recipe("int8", INTEGER), samples(graph, -1e9), prefer="size", transforms=None)
    assert {row.code for row in result.report.left_float()} == {"ADD", "SOFTMAX"}


def ranges(lowest: float) -> Statistics:
    scores = Range(-3.0, 2.0)
    known = {0: scores, 1: Range(0, 1), 4: Range(0, 1), 5: Range(lowest, 0), 6: Range(lowest + scores.low, scores.high)}
    return Statistics({(0, t): found for t, found in known.items()}, 1)


def cut(graph: Graph, statistics: Statistics) -> Statistics:
    return bounded(graph, Plan({(0, o): Decision(INTEGER) for o in range(len(graph.main.ops))}), statistics)


def test_masked_scores_vanish_and_no_more() -> None:
    graph = computed(-1e9)
    found = cut(graph, ranges(-1e9)).ranges
    lowest, mask = found[0, 6].low, found[0, 5].low
    assert lowest == pytest.approx(2.0 + mask)  # even the largest score ends there
    share = 13 * np.exp(lowest) / np.exp(-3.0)  # of all masked ones next to one score, the smallest
    assert 0.2 / 256 < share <= 0.5 / 256  # of less than half a step, and no further than that needs
    assert found[0, 3].low == pytest.approx(255 * mask)  # one step of the other side is enough


@pytest.mark.parametrize("lowest", [-5.0, -9.0])
def test_what_may_be_a_bias_keeps_its_range(lowest: float) -> None:
    graph = computed(lowest)
    statistics = ranges(lowest)
    assert cut(graph, statistics).ranges == statistics.ranges


def test_a_mask_that_something_else_reads_keeps_its_range() -> None:
    graph = computed(-1e9)
    main = graph.main
    tensors = (*main.tensors, Tensor("again", (1, 1, 13), "float32"))
    other = Graph((Subgraph("main", tensors, (*main.ops, Op("ABS", (5,), (8,))), main.inputs, (7, 8)),))
    statistics = ranges(-1e9)
    assert cut(other, statistics).ranges == statistics.ranges
