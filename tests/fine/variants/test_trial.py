"""A trial of many variants: what is settled once is not settled again, and any metric judges a file."""

import math
from dataclasses import replace
from typing import Any

import pytest

import tfq_fine as tfq
from support.graphs import images, small_cnn
from tfq_converters import flatbuffer
from tfq_converters.quantized import WeightCodes
from tfq_converters.realize import realize
from tfq_converters.runtime import Runner, file_runs
from tfq_fine.algorithms import ALGORITHMS, Algorithm, Solution, WeightProblem
from tfq_fine.calibration import calibrate
from tfq_fine.data import Batch
from tfq_fine.variants import SplitSamples, Trial, Variant
from tfq_fine.variants.numbers import Settings

SAMPLES = [(row[None],) for row in images(6)]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A trial on a small CNN; how often data was read for it, and which weights were solved."""
    graph, reads, solved = small_cnn(), list[Any](), list[WeightProblem]()
    plain = ALGORITHMS["round_to_nearest"].solve

    def recorded(problem: WeightProblem) -> WeightCodes | Solution:
        solved.append(problem)
        return plain(problem)

    monkeypatch.setitem(ALGORITHMS, "round_to_nearest", Algorithm(recorded))

    def calibrated(graph: Any, needs: Any) -> Any:
        reads.append(needs)
        return calibrate(graph, [Batch(sample, None, n, 1) for n, sample in enumerate(SAMPLES)], needs)

    with file_runs(None) as runs:
        trial = Trial(graph, Settings(), calibrated, SplitSamples.of(graph, SAMPLES, fits=False), runs)
        yield graph, trial, reads, solved


def with_bits(graph: Any, bits: int) -> dict[Any, Any]:
    """Every operator at 8 bits in integers, but the weights of the last linear one."""
    whole = tfq.OpSpec("integer", tfq.WeightSpec(8, algorithm="round_to_nearest"), tfq.ActivationSpec(8))
    requested = {key: whole for key, _ in graph.ops()}
    last = max(key for key, op in graph.ops() if op.code == "FULLY_CONNECTED")
    return requested | {last: replace(whole, weights=tfq.WeightSpec(bits, algorithm="round_to_nearest"))}


def test_another_bit_width_of_one_layer_costs_that_layer(counted: Any):
    graph, trial, reads, solved = counted
    first = trial.numbers(Variant(graph, with_bits(graph, 8)))
    weights = len(solved)
    assert len(reads) == 1 and weights == sum(
        isinstance(codes, WeightCodes) and codes.bits == 8 and codes.codes.ndim > 1
        for op in first.quantized.ops.values()
        for codes in op.weights.values()
    )
    second = trial.numbers(Variant(graph, with_bits(graph, 4)))
    assert len(reads) == 1 and len(solved) == weights + 1
    assert solved[-1].codes.bits == 4
    changed = {
        key
        for key, op in first.quantized.ops.items()
        if second.quantized.ops[key].weights.keys()
        and any(
            isinstance(codes, WeightCodes) and second.quantized.ops[key].weights[slot].bits != codes.bits
            for slot, codes in op.weights.items()
        )
    }
    assert len(changed) == 1


def test_any_metric_judges_a_file(counted: Any):
    graph, trial, _, _ = counted
    variant = Variant(graph, with_bits(graph, 8))
    runner = Runner(flatbuffer.write(realize(trial.numbers(variant).quantized).graph))
    expected = [float(runner.run(sample)[0].sum()) + n for n, sample in enumerate(SAMPLES)]
    assert list(trial.scored(variant, lambda outputs, n: float(outputs[0].sum()) + n)) == expected
    assert trial.scored(variant, lambda outputs, n: math.nan) == (-math.inf,) * len(SAMPLES)
