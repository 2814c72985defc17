"""`search`: the best file within a budget."""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

from tfq_converters.errors import TfqError
from tfq_converters.graph import IdentityCache
from tfq_converters.kernels import DEFAULT_RUNTIMES, Target
from tfq_converters.runtime import FileRuns, file_runs
from tfq_fine.api import quantize
from tfq_fine.calibration import CalibrationData, Representative, Statistics, mean_needs
from tfq_fine.mixed_precision.assembly import Plans, byte_costs
from tfq_fine.mixed_precision.choice import Limit, best_choice
from tfq_fine.mixed_precision.fitting import fit_candidates
from tfq_fine.mixed_precision.result import LayerChoice, Point, SearchResult
from tfq_fine.mixed_precision.sensitivity import PartialRuns, sensitivities
from tfq_fine.mixed_precision.units import DEFAULT, Candidate, Choice, Unit, candidates_of, recipe_of, units_of
from tfq_fine.planning import Plan, Policy
from tfq_fine.progress import Stages, Step, stages
from tfq_fine.request import OpSpec, Quality, Recipe, with_quality
from tfq_fine.session import open_model
from tfq_fine.variants import Numbers, Settings, SplitSamples, Trial, Variant, choose_ranges, fold_and_plan
from tfq_fine.verification import file_size
from tfq_fine.weights import CodesOnDisk, Fitting, plan_needs

MOST_TRIES = 6  # files of one budget: each that is too large lowers the budget of the next by what it was over
MOST_SWAPS = 48  # plans that are run to refine one
MARGIN = 1e-3  # share of noise that a swap must gain


def search(
    model: Any,
    data: Any,
    *,
    max_bytes: float,
    candidates: Sequence[str | OpSpec | Recipe] = DEFAULT,
    quality: Quality = "balanced",
    runtimes: str | Sequence[str] = DEFAULT_RUNTIMES,
    num_samples: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    safe_mode: bool = True,
    timeout: float | None = None,
) -> SearchResult:
    """Find the candidate of every layer with which the outputs are nearest to the float model's within a budget.

    Args:
        model: any float model that `quantize` takes.
        data: representative samples, in any form that `quantize` takes.
        max_bytes: the largest file: bytes from 2 on, or a share of the float file up to 1.
        candidates: what each layer may get: names of recipes, specs, or "float".
        quality: see `quantize`.
        runtimes: see `quantize`.
        num_samples: see `quantize`.
        cache_dir: see `quantize`; a second search, with another budget, starts from there.
        progress: see `quantize`.
        safe_mode: see `quantize`.
        timeout: see `quantize`.

    Raises:
        TfqError: bad input, or a budget that no plan meets: the smallest one is named.
    """
    named = candidates_of(candidates)
    if not max_bytes > 0:
        raise TfqError(
            f"max_bytes: expected bytes from 2 on, or a share of the float file up to 1; found {max_bytes!r}"
        )
    target = Target((runtimes,) if isinstance(runtimes, str) else tuple(runtimes))
    material = Representative(CalibrationData.of(data, num_samples, 1, "error", None, None, None))
    on_disk = None if cache_dir is None else CodesOnDisk(cache_dir)
    opened = open_model(model, safe_mode)
    with stages(progress) as shown, file_runs(timeout) as files:
        with shown.stage("reading the model"):
            source, overrides = opened.read(material.shapes)
        if overrides is not None:
            raise TfqError("the model holds wrappers, which fix the specs of its layers; search takes a plain model")
        found = _Search(source, material, named, quality, target, files, on_disk, shown)
        budget = max_bytes if max_bytes > 1 else max_bytes * file_size(source.content)
        choices = found.choices(int(budget))
        options: dict[str, Any] = {
            "quality": quality,
            "prefer": "size",
            "runtimes": target.runtimes,
            "num_samples": num_samples,
        }
        options |= {"progress": progress, "timeout": timeout, "cache_dir": cache_dir}
        with shown.stage("making the file"):
            return found.finished(opened.model, int(budget), choices, options)


class _Search:
    """One model, its layers, and what is known of their candidates."""

    def __init__(
        self,
        source: Any,
        material: Representative,
        candidates: Sequence[Candidate],
        quality: Quality,
        target: Target,
        files: FileRuns,
        on_disk: CodesOnDisk | None,
        shown: Stages,
    ) -> None:
        self.source, self.graph, self.material = source, source.graph, material
        graph = self.graph
        self.units = units_of(graph)
        if not self.units:
            raise TfqError("the model has no layer with weights: there is nothing to choose")
        policy = Policy("size", True, target)
        fitting = Fitting(partial(shown.steps, "fitting"), on_disk)
        settings = Settings(policy, no_islands=True)
        requested = {c: dict.fromkeys(dict(graph.ops()), with_quality(c.spec, quality, True)) for c in candidates}
        plans = {c: fold_and_plan(graph, requested[c], policy, fold=False)[1] for c in candidates}
        needs = mean_needs(graph)
        for plan in plans.values():
            needs = needs.also(plan_needs(graph, plan, bool(plan.integer_ops)))
        with shown.stage("calibrating", material.count) as advance:
            gathered = material.gather(graph, needs, advance)
        self.samples = SplitSamples.of(graph, gathered.samples, fits=True)
        whole, cache = gathered.requested, IdentityCache()
        threads = material.reading.threads

        def chosen_ranges(plan: Plan) -> Statistics:
            if not plan.integer_ops:
                return whole
            ops = tuple(sorted(plan.integer_ops.items()))
            return cache.once(lambda: choose_ranges(graph, plan, whole, self.samples.judged), graph, key=ops)

        def statistics(variant: Variant) -> Statistics:
            return chosen_ranges(fold_and_plan(graph, variant.requested, policy, fold=False)[1])

        ranged = {c: (plan, chosen_ranges(plan)) for c, plan in plans.items()}
        fitted = fit_candidates(graph, ranged, self.units, self.samples.fitted, self.samples.judged, fitting)
        trial = Trial(graph, settings, lambda *_: whole, self.samples, files, threads, fold=False)
        self.candidates = tuple(candidates)
        default = next((c.spec for c in candidates if c.spec is not None and c.spec.mode == "integer"), None)
        by_candidate = {one.candidate: one for one in fitted}
        self.plans = Plans(graph, self.units, by_candidate, default, settings, statistics, trial, IdentityCache())
        runs = PartialRuns(graph, self.samples.judged, threads)
        parts = {unit: Step(unit.name, 1.0) for unit in self.units}
        with shown.steps("measuring layers", [*parts.values()]) as begin:
            self.noise = sensitivities(runs, self.units, fitted, lambda unit: begin(parts[unit]))
        total = {c: sum(self.noise[unit, c] for unit in self.units) for c in candidates}
        small = [c for c in candidates if c.spec is not None]
        self.base = min(small, key=lambda c: total[c])
        with shown.stage("measuring sizes"):
            self.base_bytes, self.bytes = byte_costs(self.plans, self.base, candidates)

    def predicted(self, choice: Choice) -> int:
        """Return the bytes of a choice by the sum over layers."""
        return self.base_bytes + int(sum(self.bytes[unit, c] for unit, c in choice.items()))

    def loss(self, choice: Choice) -> float:
        """Return the noise of a choice by the sum over layers."""
        return sum(self.noise[unit, c] for unit, c in choice.items())

    def choices(self, budget: int) -> list[dict[Unit, Candidate]]:
        """Return the best choice within the budget by the sums over layers, refined on assembled files.

        Raises:
            TfqError: no choice is within the budget.
        """
        best = self._within(budget, budget)
        return [self._refined(best, budget)]

    def _within(self, budget: int, real: int) -> dict[Unit, Candidate]:
        """Return the best choice whose assembled file has at most `real` bytes."""
        for _ in range(MOST_TRIES):
            choice = best_choice(self.units, self.noise, [Limit(self.bytes, float(budget - self.base_bytes))])
            if choice is None:
                break
            over = self.plans.size(choice) - real
            if over <= 0:
                return choice
            budget -= over
        smallest = {unit: min(self.candidates, key=lambda c: self.bytes[unit, c]) for unit in self.units}
        least = self.plans.size(smallest)
        if least <= real:
            return smallest
        share = least / file_size(self.source.content)
        raise TfqError(
            f"max_bytes={real}: no file of these candidates is that small; the smallest has {least} bytes, "
            f"{100 * share:.1f} % of the float file"
        )

    def _refined(self, choice: dict[Unit, Candidate], budget: int) -> dict[Unit, Candidate]:
        """Return the choice after swaps of one or two layers that make the assembled file better."""
        best, runs = self.plans.measured(choice), 0
        tried = {tuple(choice.values())}
        improved = True
        while improved and runs < MOST_SWAPS:
            improved = False
            for other in self._neighbours(choice, budget):
                if tuple(other.values()) in tried:
                    continue
                tried.add(tuple(other.values()))
                runs += 1
                measured = self.plans.measured(other)
                if measured.db > best.db + 0.05 and self.plans.size(other) <= budget:
                    choice, best, improved = other, measured, True
                    break
                if runs >= MOST_SWAPS:
                    break
        return choice

    def _neighbours(self, choice: Mapping[Unit, Candidate], budget: int) -> Iterable[dict[Unit, Candidate]]:
        """Return the choices that differ in one or two layers and fit by the sums, those of least noise first."""
        changes = [(unit, c) for unit in self.units for c in self.candidates if self._differs(unit, choice[unit], c)]
        left = budget - self.predicted(choice)
        ranked: list[tuple[float, int, tuple[tuple[Unit, Candidate], ...]]] = []
        pairs = [(one, other) for one, other in combinations(changes, 2) if one[0] != other[0]]
        for change in [*((one,) for one in changes), *pairs]:
            more = sum(self.bytes[unit, c] - self.bytes[unit, choice[unit]] for unit, c in change)
            if more <= left:
                noise = sum(self.noise[unit, c] - self.noise[unit, choice[unit]] for unit, c in change)
                ranked.append((noise, len(ranked), change))
        for _, _, change in sorted(ranked)[: 2 * MOST_SWAPS]:
            yield {**choice, **dict(change)}

    def _differs(self, unit: Unit, one: Candidate, other: Candidate) -> bool:
        fitted = self.plans.fitted
        return fitted[one].decisions(unit) != fitted[other].decisions(unit)

    def finished(
        self, model: Any, budget: int, choices: Sequence[dict[Unit, Candidate]], options: dict[str, Any]
    ) -> SearchResult:
        """Make the files of some choices, and return the best one."""
        points = []
        for choice in choices:
            name = f"search_{budget}"
            recipe = recipe_of(choice, self.plans.default, name, f"at most {budget} bytes, found by search")
            result = quantize(model, recipe, self.material.data, **options)
            numbers = Numbers(result.quantized, result.plan, result.statistics)
            measured = self.plans.trial.measure(partial(_itself, numbers))
            points.append((measured.db, choice, result, Point(name, result.report.file_bytes, measured.db, recipe)))
        points.sort(key=lambda point: -point[0])
        _, choice, result, point = points[0]
        rows = tuple(self._row(unit, choice[unit]) for unit in self.units)
        frontier = tuple(each[3] for each in points)
        float_bytes = file_size(self.source.content)
        return SearchResult(result, point.recipe, rows, frontier, float_bytes, self.predicted(choice))

    def _row(self, unit: Unit, chosen: Candidate) -> LayerChoice:
        least = min(self.bytes[unit, c] for c in self.candidates)
        return LayerChoice(
            unit.name,
            chosen.name,
            {c.name: int(self.bytes[unit, c] - least) for c in self.candidates},
            {c.name: self.noise[unit, c] for c in self.candidates},
        )


def _itself(numbers: Numbers) -> Numbers:
    return numbers
