"""A model's layers before there is a budget: the noise and the bytes of each of their candidates."""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, IdentityCache
from tfq_converters.kernels import Target
from tfq_converters.runtime import FileRuns
from tfq_fine.calibration import Representative, Statistics, mean_needs
from tfq_fine.mixed_precision.assembly import Plans, byte_costs
from tfq_fine.mixed_precision.fitting import FittedCandidate, fit_candidates, fit_on
from tfq_fine.mixed_precision.latency import time_costs
from tfq_fine.mixed_precision.layers_on_disk import KeptLayer, LayersOnDisk, machine, plan_text, unit_place
from tfq_fine.mixed_precision.sensitivity import Encodings, PartialRuns, sensitivities
from tfq_fine.mixed_precision.units import Candidate, Choice, Unit, units_of
from tfq_fine.planning import Decision, Plan, Policy
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

    def predicted_latency(self, choice: Choice) -> float | None:
        """Return the time of a choice as a multiple of float's, by the sum over layers; None where none was timed."""
        return None if self.times is None else 1 + sum(self.times[pair] for pair in choice.items())

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
    executor: Executor | None = None,
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
        on_disk: where codes, noise, bytes and times are kept by content; None where they are kept nowhere.
        shown: shows what is being done.
        is_timed: candidates are timed, too.
        executor: fits and measures the layers; this process when None.

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

    kept = LayersOnDisk(on_disk, graph, samples, whole)
    texts = {c: plan_text(plan) for c, plan in plans.items()}
    sizes_name = kept.name("bytes", [*texts.values()])
    times_name = kept.name("times", [*texts.values()], machine())
    kept_times = kept.numbers(times_name) if is_timed else None
    names = {(unit, c): kept.name(unit_place(unit), texts[c]) for unit in units for c in candidates}
    reads_disk = not is_timed or kept_times is not None  # to be timed, all candidates must be encoded
    kept_layers = {
        pair: entry for pair, name in names.items() if reads_disk and (entry := kept.layer(name)) is not None
    }
    fitted = [FittedCandidate(c, plan, {}, {}) for c, plan in plans.items()]
    if len(kept_layers) < len(names):
        pairs = {c: (plan, ranged(plan)) for c, plan in plans.items()}
        fit = fit_candidates if executor is None else partial(fit_on, executor)
        fitted = [*fit(graph, pairs, units, samples, Fitting(partial(shown.steps, "fitting"), on_disk), kept_layers)]
    fitted = [_with_kept(one, kept_layers) for one in fitted]
    settings = Settings(policy, no_islands=True)
    trial = Trial(graph, settings, lambda *_: whole, samples, files, threads, fold=False)
    default = next((spec for spec in specs.values() if spec is not None and spec.mode == "integer"), None)
    by_candidate = {one.candidate: one for one in fitted}
    made = Plans(graph, units, by_candidate, default, settings, statistics, trial, cache, kept, texts)
    steps = {unit: Step(unit.name, 1.0) for unit in units}
    noise = {pair: entry.noise for pair, entry in kept_layers.items()}
    ways = _ways(units, fitted, kept_layers)
    with shown.steps("measuring layers", [*steps.values()]) as begin:
        runs = PartialRuns(graph, samples.judged, threads)
        asked = {unit: [own for own, _ in several] for unit, several in ways.items()}
        for unit, shares in sensitivities(runs, asked, lambda unit: begin(steps[unit]), executor):
            for (_, alike), share in zip(ways[unit], shares, strict=True):
                for c in alike:
                    noise[unit, c] = share
                    kept.keep_layer(names[unit, c], KeptLayer(share, by_candidate[c].codes_of(unit)))
    noise = {pair: noise[pair] for pair in names}  # in one order, which the solver's choice among equals depends on
    quantized = [c for c in candidates if c.spec is not None]
    base = min(quantized, key=lambda c: sum(noise[unit, c] for unit in units))
    with shown.stage("measuring sizes"):
        base_bytes, costs = _sizes(kept, sizes_name, made, base, [*names])
    times = None if kept_times is None else dict(zip(names, kept_times, strict=True))
    if is_timed and times is None:
        with shown.steps("timing layers", [*steps.values()]) as begin:
            runs = PartialRuns(graph, samples.judged[:1], 1)
            times = time_costs(runs, units, fitted, target.table, lambda unit: begin(steps[unit]))
        kept.keep_numbers(times_name, [times[pair] for pair in names])
    return Explored(tuple(candidates), made, noise, costs, base, base_bytes, float_bytes, times)


def _sizes(
    kept: LayersOnDisk, name: str, plans: Plans, base: Candidate, pairs: Sequence[tuple[Unit, Candidate]]
) -> tuple[int, Table]:
    """Return `byte_costs` for all pairs of a layer and a candidate, from disk where they are there."""
    numbers = kept.numbers(name)
    if numbers is None:
        base_bytes, costs = byte_costs(plans, base, list(plans.fitted))
        kept.keep_numbers(name, [base_bytes, *(costs[pair] for pair in pairs)])
        return base_bytes, costs
    return int(numbers[0]), dict(zip(pairs, numbers[1:], strict=True))


def _with_kept(one: FittedCandidate, kept_layers: Mapping[tuple[Unit, Candidate], KeptLayer]) -> FittedCandidate:
    """Return a candidate with the codes of the layers that were on disk."""
    kept = [entry.codes for (_, c), entry in kept_layers.items() if c == one.candidate]
    return one.with_codes({place: codes for each in kept for place, codes in each.items()})


def _ways(
    units: Sequence[Unit], fitted: Sequence[FittedCandidate], kept_layers: Collection[tuple[Unit, Candidate]]
) -> dict[Unit, list[tuple[Encodings, list[Candidate]]]]:
    """Return, for every layer that is not known yet, its encodings and the candidates that give it each of them."""
    ways: dict[Unit, list[tuple[Encodings, list[Candidate]]]] = {}
    for unit in units:
        several: dict[tuple[Decision, ...], tuple[Encodings, list[Candidate]]] = {}
        for one in fitted:
            if (unit, one.candidate) not in kept_layers:
                own = {key: one.encodings[key] for key in unit.keys if key in one.encodings}
                several.setdefault(one.decisions(unit), (own, []))[1].append(one.candidate)
        if several:
            ways[unit] = [*several.values()]
    return ways
