"""A model's layers before there is a budget: the noise and the bytes of each of their candidates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, IdentityCache
from tfq_converters.kernels import Target
from tfq_converters.runtime import FileRuns
from tfq_fine.calibration import Representative, Statistics, mean_needs
from tfq_fine.mixed_precision.assembly import Plans, byte_costs
from tfq_fine.mixed_precision.fitting import fit_candidates
from tfq_fine.mixed_precision.latency import time_costs
from tfq_fine.mixed_precision.sensitivity import PartialRuns, sensitivities
from tfq_fine.mixed_precision.units import Candidate, Choice, Unit, units_of
from tfq_fine.planning import Plan, Policy
from tfq_fine.progress import Stages, Step
from tfq_fine.request import Quality, with_quality
from tfq_fine.variants import Settings, SplitSamples, Trial, Variant, choose_ranges, fold_and_plan
from tfq_fine.weights import CodesOnDisk, Fitting, plan_needs

Table = Mapping[tuple[Unit, Candidate], float]


@dataclass(frozen=True)
class Explored:
    """The layers of a model and their candidates.

    Attributes:
        candidates: the candidates of every layer.
        plans: makes files of choices at once.
        noise: the share of noise in the outputs with only this layer quantized, by (layer, candidate).
        bytes: what a candidate adds to the file in place of `base`, by (layer, candidate).
        base: the candidate that sizes are counted from.
        base_bytes: the size of the file with it for all layers.
        float_bytes: the size of the float file.
        times: what a candidate takes longer than float, as a share of the model's time; None where nobody asks.
    """

    candidates: tuple[Candidate, ...]
    plans: Plans
    noise: Table
    bytes: Table
    base: Candidate
    base_bytes: int
    float_bytes: int
    times: Table | None = None

    @property
    def units(self) -> tuple[Unit, ...]:
        """The layers."""
        return self.plans.units

    def predicted_bytes(self, choice: Choice) -> int:
        """Return the bytes of a choice by the sum over layers."""
        return self.base_bytes + round(sum(self.bytes[pair] for pair in choice.items()))

    def predicted_noise(self, choice: Choice) -> float:
        """Return the noise of a choice by the sum over layers."""
        return sum(self.noise[pair] for pair in choice.items())

    def smallest(self) -> dict[Unit, Candidate]:
        """Return the choice of fewest bytes; of equal ones, that of least noise."""
        return {
            unit: min(self.candidates, key=lambda c: (self.bytes[unit, c], self.noise[unit, c])) for unit in self.units
        }

    def most_exact(self) -> dict[Unit, Candidate]:
        """Return the choice of least noise; of equal ones, that of fewest bytes."""
        return {
            unit: min(self.candidates, key=lambda c: (self.noise[unit, c], self.bytes[unit, c])) for unit in self.units
        }


def explored(
    graph: Graph,
    material: Representative,
    candidates: Sequence[Candidate],
    quality: Quality,
    target: Target,
    float_bytes: int,
    files: FileRuns,
    on_disk: CodesOnDisk | None,
    shown: Stages,
    is_timed: bool = False,
) -> Explored:
    """Fit all candidates, and measure what each does to the outputs and to the size.

    Args:
        graph: the float graph.
        material: representative samples.
        candidates: the candidates of every layer.
        quality: how much effort goes into the weights.
        target: where the file must run.
        float_bytes: the size of the float file.
        files: the process that runs files.
        on_disk: fitted codes on disk; None where they are kept nowhere.
        shown: shows what is being done.
        is_timed: candidates are timed, too.

    Raises:
        TfqError: there is nothing to choose, or the data is bad.
    """
    units = units_of(graph)
    if not units:
        raise TfqError("the model has no layer with weights: there is nothing to choose")
    policy = Policy("size", True, target)
    specs = {c: with_quality(c.spec, quality, True) for c in candidates}
    plans = {c: fold_and_plan(graph, dict.fromkeys(dict(graph.ops()), specs[c]), policy, fold=False)[1] for c in specs}
    needs = mean_needs(graph)
    for plan in plans.values():
        needs = needs.also(plan_needs(graph, plan, bool(plan.integer_ops)))
    with shown.stage("calibrating", material.count) as advance:
        gathered = material.gather(graph, needs, advance)
    whole, threads = gathered.requested, material.reading.threads
    samples, cache = SplitSamples.of(graph, gathered.samples, fits=True), IdentityCache()

    def ranged(plan: Plan) -> Statistics:
        if not plan.integer_ops:
            return whole
        ops = tuple(sorted(plan.integer_ops.items()))
        return cache.once(lambda: choose_ranges(graph, plan, whole, samples.judged), graph, key=ops)

    def statistics(variant: Variant) -> Statistics:
        return ranged(fold_and_plan(graph, variant.requested, policy, fold=False)[1])

    fitting = Fitting(partial(shown.steps, "fitting"), on_disk)
    pairs = {c: (plan, ranged(plan)) for c, plan in plans.items()}
    fitted = fit_candidates(graph, pairs, units, samples.fitted, samples.judged, fitting)
    settings = Settings(policy, no_islands=True)
    trial = Trial(graph, settings, lambda *_: whole, samples, files, threads, fold=False)
    default = next((spec for spec in specs.values() if spec is not None and spec.mode == "integer"), None)
    by_candidate = {one.candidate: one for one in fitted}
    made = Plans(graph, units, by_candidate, default, settings, statistics, trial, cache)
    steps = {unit: Step(unit.name, 1.0) for unit in units}
    with shown.steps("measuring layers", [*steps.values()]) as begin:
        runs = PartialRuns(graph, samples.judged, threads)
        noise = sensitivities(runs, units, fitted, lambda unit: begin(steps[unit]))
    quantized = [c for c in candidates if c.spec is not None]
    base = min(quantized, key=lambda c: sum(noise[unit, c] for unit in units))
    with shown.stage("measuring sizes"):
        base_bytes, costs = byte_costs(made, base, candidates)
    times = None
    if is_timed:
        with shown.steps("timing layers", [*steps.values()]) as begin:
            runs = PartialRuns(graph, samples.judged[:1], 1)
            times = time_costs(runs, units, fitted, target.table, lambda unit: begin(steps[unit]))
    return Explored(tuple(candidates), made, noise, costs, base, base_bytes, float_bytes, times)
