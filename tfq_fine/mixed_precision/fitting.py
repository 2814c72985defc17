"""The codes of every candidate of every layer, fitted to the inputs that the layer has in the float model."""

import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, replace

from tfq_converters.graph import Graph
from tfq_converters.operators import weight_axes
from tfq_converters.quantized import OpEncoding, OpKey, WeightCodes
from tfq_fine.activations import EncodedPlan, encoded_plan
from tfq_fine.algorithms import OperatorInputs
from tfq_fine.calibration import Layerwise, Statistics, result_of
from tfq_fine.mixed_precision.units import Candidate, Unit
from tfq_fine.planning import Decision, Plan
from tfq_fine.progress import Step
from tfq_fine.variants import SplitSamples
from tfq_fine.weights import Encoder, Fitting, Solver, fitting_steps

SHARES = 16  # parts of the layers, that an executor fits apart


@dataclass(frozen=True)
class FittedCandidate:
    """One candidate for all layers."""

    candidate: Candidate
    plan: Plan
    encodings: Mapping[OpKey, OpEncoding]  # those of operators that are neither left in float nor on disk
    codes: Mapping[tuple[OpKey, int], WeightCodes]  # (operator, slot) -> the codes of these weights

    def decisions(self, unit: Unit) -> tuple[Decision, ...]:
        """Return what the kernels give of the candidate to a unit; the same for candidates that fall back alike."""
        return tuple(replace(self.plan[key], reason="") for key in unit.keys)

    def codes_of(self, unit: Unit) -> dict[tuple[OpKey, int], WeightCodes]:
        """Return the codes of the weights of a unit."""
        return {place: codes for place, codes in self.codes.items() if place[0] in unit.keys}

    def with_codes(self, more: Mapping[tuple[OpKey, int], WeightCodes]) -> "FittedCandidate":
        """Return the candidate with more codes."""
        return replace(self, codes={**self.codes, **more})


def fit_candidates(
    graph: Graph,
    plans: Mapping[Candidate, tuple[Plan, Statistics | None]],
    units: Sequence[Unit],
    samples: SplitSamples,
    fitting: Fitting,
    known: Collection[tuple[Unit, Candidate]] = (),
    threads: int | None = None,
) -> tuple[FittedCandidate, ...]:
    """Fit layer after layer, each with all candidates, so that the moments of its inputs are taken once.

    Args:
        graph: the float graph.
        plans: candidate -> (its plan, the statistics with the ranges that were chosen for it).
        units: the layers.
        samples: the samples that weights are fitted to, and those that algorithms judge them on.
        fitting: who sees how far it is, and codes on disk.
        known: candidates of layers that are left out.
        threads: the number of threads of the interpreter; all cores when None.
    """
    inputs = _FloatInputs(Layerwise(graph, samples.fitted, samples.judged, threads or os.cpu_count() or 1))
    left_out = {(c, key) for unit, c in known for key in unit.keys}
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
                if (c, key) in left_out:
                    continue
                same = key, replace(one.plan[key], reason="")
                if same not in done:
                    done[same] = Encoder(graph, one).encoded(key, solvers[c], {}).get(key)
                encoding = done[same]
                if encoding is not None:
                    encodings[c][key] = encoding
    return tuple(FittedCandidate(c, one.plan, encodings[c], _codes(graph, encodings[c])) for c, one in placed.items())


def fit_on(
    executor: Executor,
    graph: Graph,
    plans: Mapping[Candidate, tuple[Plan, Statistics | None]],
    units: Sequence[Unit],
    samples: SplitSamples,
    fitting: Fitting,
    known: Collection[tuple[Unit, Candidate]] = (),
) -> tuple[FittedCandidate, ...]:
    """Return what `fit_candidates` does; an executor fits several layers at a time, of each candidate.

    Raises:
        TfqError: the executor lost some layers.
    """
    shares = [share for share in _shares(graph, units) if {(unit, c) for unit in share for c in plans} - {*known}]
    steps = [Step(share[0].name, float(len(share))) for share in shares]
    options = graph, plans, samples, Fitting(on_disk=fitting.on_disk), known
    futures = [executor.submit(_fit_share, share, *options) for share in shares]
    parts = []
    try:
        with fitting.steps(steps) as begin:
            for share, step, future in zip(shares, steps, futures, strict=True):
                begin(step)
                parts.append(result_of(future, f"layers {share[0].name} to {share[-1].name}"))
    finally:
        for future in futures:
            future.cancel()
    fitted = {c: FittedCandidate(c, plan, {}, {}) for c, (plan, _) in plans.items()}
    for part in parts:
        for one in part:
            before = fitted[one.candidate]
            encodings, codes = {**before.encodings, **one.encodings}, {**before.codes, **one.codes}
            fitted[one.candidate] = replace(before, encodings=encodings, codes=codes)
    return tuple(fitted.values())


def _fit_share(
    share: Sequence[Unit],
    graph: Graph,
    plans: Mapping[Candidate, tuple[Plan, Statistics | None]],
    samples: SplitSamples,
    fitting: Fitting,
    known: Collection[tuple[Unit, Candidate]],
) -> tuple[FittedCandidate, ...]:
    """Fit some layers; an executor runs this."""
    return fit_candidates(graph, plans, share, samples, fitting, known, threads=1)


def _shares(graph: Graph, units: Sequence[Unit]) -> list[list[Unit]]:
    """Return the layers in at most `SHARES` parts; what reads the same constant is in one, for that is fitted once.

    Neighbours are together where they can be: every part runs the float model up to its last layer.
    """
    shares: list[list[Unit]] = [[] for _ in range(min(SHARES, len(units)))]
    place: dict[int, int] = {}  # constant -> its share
    for n, unit in enumerate(units):
        read = {
            t for _, o in unit.keys for t in graph.main.ops[o].inputs if t >= 0 and graph.main.tensors[t].is_constant
        }
        share = min((place[t] for t in read if t in place), default=n * len(shares) // len(units))
        shares[share].append(unit)
        place |= {t: share for t in read if t not in place}
    return [share for share in shares if share]


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
