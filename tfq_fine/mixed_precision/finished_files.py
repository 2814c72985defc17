"""The files that are made in full: put together from fitted codes, or fitted anew; the better one stays."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from tfq_converters.errors import TfqError
from tfq_converters.runtime import waiting
from tfq_fine.api import LOGGER, Result, emitted, quantize
from tfq_fine.mixed_precision.conditions import Conditions, Job
from tfq_fine.mixed_precision.exploration import Explored
from tfq_fine.mixed_precision.labelled import Drop, Labelled
from tfq_fine.mixed_precision.latency import file_ratio
from tfq_fine.mixed_precision.result import Frontier, LayerChoice, Point, SearchResult
from tfq_fine.mixed_precision.units import Candidate, Choice, Unit, recipe_of
from tfq_fine.mixed_precision.within_bytes import best_start, refined, sizes_between
from tfq_fine.request import Recipe
from tfq_fine.session import Decided, QuantizationRequest, prepare
from tfq_fine.variants import Numbers
from tfq_fine.weights import fitting_steps

EXACT_ENOUGH_DB = 30.0  # outputs, from which on large models are not fitted anew: they gain nothing there
MOST_FILES = 4  # files of one size: each that is too large lowers the size of the next by its excess
LONG = 1e11  # multiply-adds of fitting (`fitting_steps`), which take some ten seconds
LEAD_DB = 0.5  # less is chance: the choice was refined on the samples that judge the file that is put together


@dataclass(frozen=True)
class Finished:
    """A file that was made in full."""

    choice: Choice
    result: Result
    point: Point


class FinishedFiles:
    """Makes files in full and keeps them.

    Args:
        model: the model, as `quantize` takes it.
        job: the same, read.
        table: the layers and their candidates.
        conditions: how files are made.
        judge: labelled samples that decide; None where there are none.
        refits: files are fitted anew, too, unless that takes long and brings nothing.
    """

    def __init__(
        self,
        model: Any,
        job: Job,
        table: Explored,
        conditions: Conditions,
        judge: Labelled | None = None,
        refits: bool = True,
    ) -> None:
        self._model, self._job, self._table, self._conditions, self._judge = model, job, table, conditions, judge
        self._refits = refits
        self._made: list[Finished] = []

    def make(
        self,
        choice: Choice,
        said: str,
        is_enough: Callable[[Finished], bool] | None = None,
        most: int | None = None,
    ) -> Finished:
        """Make the file of a choice: put together and, unless that is enough, as `quantize` makes it.

        Args:
            choice: the choice.
            said: the budget, for the recipe.
            is_enough: whether no other file of the choice is needed; None: where it is exact and fitting takes long.
            most: the largest size; None for any.

        Returns:
            The better of the two.
        """
        recipe = recipe_of(choice, self._table.plans.default(choice), "search", f"found by search: {said}")
        first = self._finished(choice, recipe, self._put_together(choice, recipe), is_whole=False)
        if not self._refits or (is_enough or self._is_enough)(first):
            return first
        second = self._finished(choice, recipe, self._quantized(recipe), is_whole=True)
        fits = most is None or second.point.bytes <= most
        return second if fits and self._is_better(second.point, first.point) else first

    def _is_enough(self, made: Finished) -> bool:
        if made.point.sqnr_db < EXACT_ENOUGH_DB:
            return False
        ground = self._table.plans.ground
        steps = {c: fitting_steps(ground.graph, ground.plans[c]) for c in {*made.choice.values()}}
        costs = [steps[c][key].cost for unit, c in made.choice.items() for key in unit.keys if key in steps[c]]
        return sum(costs) > LONG

    @staticmethod
    def _is_better(whole: Point, put_together: Point) -> bool:
        if whole.drop is not None and put_together.drop is not None and whole.drop.value != put_together.drop.value:
            return whole.drop.value < put_together.drop.value
        return whole.sqnr_db > put_together.sqnr_db - LEAD_DB

    def _finished(self, choice: Choice, recipe: Recipe, result: Result, is_whole: bool) -> Finished:
        """Run a file on the samples that decide."""
        numbers = Numbers(result.quantized, result.plan, result.statistics)
        measured = self._table.plans.trial.measure(lambda: numbers)
        drop = None if self._judge is None else self._judge.drop(result.graph, result.content)
        point = Point(result.report.file_bytes, measured.db, drop, recipe, is_whole)
        made = Finished(choice, result, point)
        self._made.append(made)
        return made

    def _put_together(self, choice: Choice, recipe: Recipe) -> Result:
        """Write and check the file of the codes that were fitted to the float model's inputs."""
        job, ground, conditions = self._job, self._table.plans.ground, self._conditions
        request = QuantizationRequest(recipe, ground.policy, quality=conditions.quality)
        decided = Decided(ground.graph, self._table.plans.numbers(choice), ground.known)
        planned = prepare(request, job.source, job.material, None, None)
        with waiting(conditions.timeout) as runs:
            return emitted(
                planned, job.source, decided, ground.known, ground.all_samples, runs, job.files, ground.threads
            )

    def _quantized(self, recipe: Recipe) -> Result:
        """Fit every layer to what the quantized layers before it compute."""
        conditions, material = self._conditions, self._job.material
        return quantize(
            self._model,
            recipe,
            material.data,
            prefer="size",
            quality=conditions.quality,
            runtimes=conditions.target.runtimes,
            num_samples=material.num_samples,
            cache_dir=conditions.cache_dir,
            progress=False,
            safe_mode=conditions.safe_mode,
            timeout=conditions.timeout,
        )

    def within_bytes(self, most: int) -> SearchResult:
        """Return the best file of at most `most` bytes.

        Raises:
            TfqError: none is that small.
        """
        limit, fitting = most, list[Finished]()
        while len(fitting) < MOST_FILES:
            try:
                choice = refined(self._table, best_start(self._table, limit), limit)
            except TfqError:
                if not fitting:
                    raise
                break
            made = self.make(choice, f"at most {most} bytes", most=most)
            fitting.append(made)
            last = self._made[-1].point
            if last.bytes <= most or not self._is_better(last, made.point):
                break
            limit -= last.bytes - most  # what `quantize` made is better, and a little too large
        return self.result(max(fitting, key=lambda made: made.point.sqnr_db))

    def drop(self, choice: Choice, limit: float) -> Drop:
        """Make the file of a choice, and return how much worse it is than the float model."""

        def keeps(made: Finished) -> bool:
            return made.point.drop is not None and made.point.drop.value <= limit

        drop = self.make(choice, f"a drop of at most {limit:g}", keeps).point.drop
        assert drop is not None
        return drop

    def within_time(self, choice: dict[Unit, Candidate], most: float) -> SearchResult:
        """Return the file of a choice, timed as a whole."""
        made = self.make(choice, f"at most {most:g} of float's time")
        plans = self._table.plans
        ratio = file_ratio(plans.graph, plans.trial.samples[0], made.result.quantized)
        slow = f"the file takes {ratio:.2f} of float's time, more than {most:g}" if ratio > most else ""
        predicted = self._table.predicted_latency(choice)
        return replace(self.result(made, slow), latency=ratio, predicted_latency=predicted)

    def smallest(self, limit: float) -> SearchResult:
        """Return the smallest file whose drop is within the limit; where none is, the one that drops least."""

        def dropped(made: Finished) -> float:
            return made.point.drop.value if made.point.drop else 0.0

        kept = [made for made in self._made if dropped(made) <= limit]
        if kept:
            return self.result(min(kept, key=lambda made: made.point.bytes))
        best = min(self._made, key=dropped)
        return self.result(best, f"no file of these candidates keeps to a drop of {limit:g}: {best.point.drop}")

    def result(self, best: Finished, problem: str = "") -> SearchResult:
        """Return the result of a search, and warn of what its report warns of."""
        for warning in () if best.point.is_whole else best.result.report.warnings:  # `quantize` says its own
            LOGGER.warning(warning)
        table, points = self._table, [*(made.point for made in self._made), *self._others()]
        frontier = Frontier(tuple(sorted(points, key=lambda point: point.bytes)), table.float_bytes)
        layers = tuple(self._row(unit, best.choice[unit]) for unit in table.units)
        predicted = table.predicted_bytes(best.choice)
        return SearchResult(best.result, best.point, layers, frontier, table.float_bytes, predicted, problem)

    def _others(self) -> Iterator[Point]:
        """Yield points at sizes between the smallest and the most exact file, of files that are put together."""
        plans = self._table.plans
        for choice in sizes_between(self._table):
            size = plans.size(choice)
            recipe = recipe_of(choice, plans.default(choice), "search", f"found by search: {size} bytes")
            yield Point(size, plans.decibels(choice), None, recipe, is_whole=False)

    def _row(self, unit: Unit, chosen: Candidate) -> LayerChoice:
        table = self._table
        least = min(table.bytes[unit, c] for c in table.candidates)
        return LayerChoice(
            unit.name,
            chosen.name,
            {c.name: round(table.bytes[unit, c] - least) for c in table.candidates},
            {c.name: table.loss[unit, c] for c in table.candidates},
        )
