"""The codes of every candidate of every layer, fitted to the inputs that the layer has in the float model."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from tfq_converters.graph import Graph
from tfq_converters.operators import weight_axes
from tfq_converters.quantized import OpEncoding, OpKey, WeightCodes
from tfq_fine.activations import EncodedPlan, encoded_plan
from tfq_fine.algorithms import OperatorInputs
from tfq_fine.calibration import Layerwise, Sample, Statistics
from tfq_fine.mixed_precision.units import Candidate, Unit
from tfq_fine.planning import Decision, Plan
from tfq_fine.progress import Step
from tfq_fine.weights import Encoder, Fitting, Solver, fitting_steps


@dataclass(frozen=True)
class FittedCandidate:
    """One candidate for all layers."""

    candidate: Candidate
    plan: Plan
    encodings: Mapping[OpKey, OpEncoding]  # those of operators with weights that are not left in float
    codes: Mapping[tuple[OpKey, int], WeightCodes]  # (operator, slot) -> the codes of these weights

    def decisions(self, unit: Unit) -> tuple[Decision, ...]:
        """Return what the kernels give of the candidate to a unit; the same for candidates that fall back alike."""
        return tuple(replace(self.plan[key], reason="") for key in unit.keys)


def fit_candidates(
    graph: Graph,
    plans: Mapping[Candidate, tuple[Plan, Statistics | None]],
    units: Sequence[Unit],
    fitted: Sequence[Sample],
    apart: Sequence[Sample],
    fitting: Fitting,
) -> tuple[FittedCandidate, ...]:
    """Fit layer after layer, each with all candidates, so that the moments of its inputs are taken once.

    Args:
        graph: the float graph.
        plans: candidate -> (its plan, the statistics with the ranges that were chosen for it).
        units: the layers.
        fitted: the samples that weights are fitted to.
        apart: the samples that algorithms judge them on.
        fitting: who sees how far it is, and codes on disk.
    """
    inputs = _FloatInputs(Layerwise(graph, fitted, apart, os.cpu_count() or 1))
    placed: dict[Candidate, EncodedPlan] = {c: encoded_plan(graph, *pair) for c, pair in plans.items()}
    steps = {(c, key): step for c, one in placed.items() for key, step in fitting_steps(graph, one.plan).items()}
    keys = sorted(key for unit in units for key in unit.keys)
    ordered = [Step(f"{step.name}, {c.name}", step.cost) for key in keys for c, step in _of_key(steps, key)]
    encodings: dict[Candidate, dict[OpKey, OpEncoding]] = {c: {} for c in plans}
    with ExitStack() as stack:
        begin = stack.enter_context(fitting.steps(ordered))
        named = {(c, key): Step(f"{step.name}, {c.name}", step.cost) for (c, key), step in steps.items()}
        solvers = {
            c: Solver(
                one.ranges,
                layers=lambda: inputs,
                on_disk=fitting.on_disk,
                steps={key: step for (other, key), step in named.items() if other == c},
                begin=begin,
                resumes=True,
            )
            for c, one in placed.items()
        }
        done: dict[tuple[OpKey, Decision], OpEncoding | None] = {}
        for key in keys:
            for c, one in placed.items():
                same = key, replace(one.plan[key], reason="")
                if same not in done:
                    done[same] = Encoder(graph, one).encoded(key, solvers[c], {}).get(key)
                encoding = done[same]
                if encoding is not None:
                    encodings[c][key] = encoding
    return tuple(FittedCandidate(c, one.plan, encodings[c], _codes(graph, encodings[c])) for c, one in placed.items())


class _FloatInputs:
    """Gives the inputs of operators in the float model, those of the last one once for all candidates."""

    def __init__(self, layerwise: Layerwise) -> None:
        self._layerwise = layerwise
        self._last: tuple[OpKey, OperatorInputs] | None = None

    def inputs_of(self, key: OpKey, before: Mapping[OpKey, OpEncoding]) -> OperatorInputs:
        """Return the inputs of operator `key`, whatever is `before` it."""
        if self._last is None or self._last[0] != key:
            self._last = key, self._layerwise.inputs_of(key, {})
        return self._last[1]


def _codes(graph: Graph, encodings: Mapping[OpKey, OpEncoding]) -> dict[tuple[OpKey, int], WeightCodes]:
    """Return the codes of weights among the constants of some operators of the main subgraph."""
    codes = {}
    for key, encoding in encodings.items():
        for axes in weight_axes(graph.main.ops[key[1]], graph.main):
            stored = encoding.weights.get(axes.slot)
            if isinstance(stored, WeightCodes):
                codes[key, axes.slot] = stored
    return codes


def _of_key(steps: Mapping[tuple[Candidate, OpKey], Step], key: OpKey) -> list[tuple[Candidate, Step]]:
    return [(c, step) for (c, other), step in steps.items() if other == key]
