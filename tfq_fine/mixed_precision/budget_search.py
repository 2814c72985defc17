"""`search`: the best file within a budget."""

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Any

from tfq_converters.errors import TfqError, extras_named, raise_all
from tfq_converters.kernels import DEFAULT_RUNTIMES, Target
from tfq_converters.runtime import file_runs
from tfq_fine.api import Result, quantize
from tfq_fine.calibration import CalibrationData, Representative
from tfq_fine.mixed_precision.exploration import Explored, explored
from tfq_fine.mixed_precision.labelled import Drop, Labelled, read_once, split
from tfq_fine.mixed_precision.latency import file_ratio
from tfq_fine.mixed_precision.result import Frontier, LayerChoice, Point, SearchResult
from tfq_fine.mixed_precision.units import DEFAULT, QUICK, Candidate, Choice, Unit, candidates_of, recipe_of
from tfq_fine.mixed_precision.within_bytes import best_within, refined, sizes_between
from tfq_fine.mixed_precision.within_drop import within_drop
from tfq_fine.mixed_precision.within_latency import best_within_time
from tfq_fine.progress import stages
from tfq_fine.request import MaxDrop, OpSpec, Quality, Recipe
from tfq_fine.session import open_model
from tfq_fine.variants import Numbers
from tfq_fine.verification import file_size, task_metric
from tfq_fine.weights import CodesOnDisk

MOST_FILES = 4  # files of one size: each that is too large lowers the size of the next by what it was over
AS_SHARE = 1.0  # largest `max_bytes` that is a share of the float file


@extras_named()
def search(
    model: Any,
    data: Any,
    *,
    max_bytes: float | str | None = None,
    max_drop: float | str | None = None,
    max_latency: float | None = None,
    labels: Any = None,
    metric: Any = None,
    candidates: Sequence[str | OpSpec | Recipe] | None = None,
    quality: Quality = "balanced",
    runtimes: str | Sequence[str] = DEFAULT_RUNTIMES,
    num_samples: int | None = None,
    executor: Executor | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    safe_mode: bool = True,
    timeout: float | None = None,
) -> SearchResult:
    """Choose how each layer is quantized, so that the file is the best within a budget, and quantize the model so.

    Args:
        model: any float model that `quantize` takes.
        data: representative samples, in any form that `quantize` takes.
        max_bytes: the largest size of the file, in bytes, or as a share of the float file's, `0.2` or `"20%"`: the file
            with the least error within it is made.
        max_drop: how much worse than the float model's the metric may get, as `0.01` or `"1%"`: the smallest file that
            keeps to it is made. At least half of the samples decide that, and are fitted to by nothing.
        max_latency: the longest time of a run as a multiple of the float model's, on this machine with one thread: the
            file with the least error within it is made.
        labels: labels of the samples, unless `data` holds them; for `max_drop`.
        metric: as in `verify`; for `max_drop`.
        candidates: what each layer may get: names of recipes, recipes without rules, specs, or "float". None: float,
            float16 and weights of 8, 4 and 2 bits in mode weight_only; for `max_latency`, float, dynamic_int8 and
            full_int8.
        quality: see `quantize`.
        runtimes: see `quantize`.
        num_samples: read at most this many samples.
        executor: any `concurrent.futures.Executor`, which fits and measures layers: threads, processes, Dask. The plan
            is the same with any of them, and without.
        cache_dir: see `quantize`; another budget's search starts from what this one found out about layers.
        progress: see `quantize`.
        safe_mode: see `quantize`.
        timeout: see `quantize`.

    Returns:
        A `SearchResult`: the file, its recipe, what each layer got, and the files that were made on the way.

    Raises:
        TfqError: bad input, or a size or time that no file has: the smallest possible one is named.
    """
    named = candidates_of(candidates or (DEFAULT if max_latency is None else QUICK))
    raise_all(_problems(max_bytes, max_drop, max_latency, labels, metric))
    measure = None if max_drop is None else task_metric(metric)
    drop = None if max_drop is None else MaxDrop.of(max_drop)
    target = Target((runtimes,) if isinstance(runtimes, str) else tuple(runtimes))
    on_disk = None if cache_dir is None else CodesOnDisk(cache_dir)
    opened = open_model(model, safe_mode)
    material = Representative(CalibrationData.of(data, num_samples, 1, "error", None, None, None))
    with stages(progress) as shown, file_runs(timeout) as files:
        with shown.stage("reading the model"):
            source = opened.read_plain(material.shapes, "search")
        judge = None
        if measure is not None:
            calibrating, deciding, kept = split(source.graph, material.data, labels, num_samples)
            judge = Labelled(source.graph, deciding, kept, measure, os.cpu_count() or 1)
            material = Representative(CalibrationData(partial(iter, calibrating)))
        elif hasattr(material.data, "__next__"):
            material = Representative(
                CalibrationData(partial(iter, read_once(source.graph, material.data, num_samples)))
            )
        size = file_size(source.content)
        table = explored(
            source.graph, material, named, quality, target, size, files, on_disk, shown, bool(max_latency), executor
        )

        def quantized(recipe: Recipe) -> Result:
            return quantize(
                model,
                recipe,
                material.data,
                prefer="size",
                quality=quality,
                runtimes=target.runtimes,
                num_samples=material.num_samples,
                cache_dir=cache_dir,
                progress=False,
                safe_mode=safe_mode,
                timeout=timeout,
            )

        made = _Made(table, quantized, judge)
        if judge is not None and drop is not None:
            limit = judge.limit(drop)
            with shown.stage("making files"):
                within_drop(table, judge, limit, lambda choice: made.drop(choice, f"a drop of at most {limit:g}"))
            return made.smallest(limit)
        if table.times is not None and max_latency is not None:
            with shown.stage("choosing"):
                choice = best_within_time(table, table.times, max_latency)
            with shown.stage("making the file"):
                return made.quick(choice, max_latency)
        assert max_bytes is not None
        most = _bytes(max_bytes, size)
        with shown.stage("choosing"):
            start = best_within(table, most)
        with shown.stage("making files"):
            return made.within(most, start)


def _bytes(given: float | str, whole: int) -> int:
    """Return a size in bytes, of a number of them or a share of `whole`; 0 where it is neither.

    >>> _bytes(0.25, 400), _bytes("25%", 400), _bytes("90", 400), _bytes(1, 400), _bytes("a lot", 400)
    (100, 100, 90, 400, 0)
    """
    text = str(given).strip()
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return 0
    is_share = text.endswith("%") or value <= AS_SHARE
    return int(value * whole if is_share else value) if 0 < value < math.inf else 0


def _problems(
    max_bytes: float | str | None,
    max_drop: float | str | None,
    max_latency: float | None,
    labels: Any,
    metric: Any,
) -> Iterator[str]:
    """Yield what is wrong with the budget."""
    number = sum(budget is not None for budget in (max_bytes, max_drop, max_latency))
    if number != 1:
        budgets = "max_bytes=..., max_drop=... or max_latency=..."
        yield f"search needs one budget, {budgets}, and found {number or 'none'}"
    if max_latency is not None and not 0 < max_latency < math.inf:
        yield f"max_latency: expected a multiple of the float model's time, such as 0.5; found {max_latency!r}"
    if max_bytes is not None and not _bytes(max_bytes, 2**40):
        yield f"max_bytes: expected a number of bytes, or a share such as 0.2 or '20%'; found {max_bytes!r}"
    if max_drop is not None and metric is None:
        yield "max_drop is a drop of a metric: pass metric='top1', or another that `verify` takes"
    if max_drop is None and (labels is not None or metric is not None):
        yield "labels and metric are read for max_drop alone"


class _Made:
    """The files that are made in full.

    Args:
        table: the layers and their candidates.
        quantized: makes a file of a recipe.
        judge: labelled samples; None where there are none.
    """

    def __init__(self, table: Explored, quantized: Any, judge: Labelled | None) -> None:
        self._table, self._quantized, self._judge = table, quantized, judge
        self._points: list[tuple[Choice, Result, Point]] = []

    def make(self, choice: Choice, said: str) -> Point:
        """Make the file of a choice, and run it on the samples that decide."""
        recipe = recipe_of(choice, self._table.plans.default(choice), "search", f"found by search: {said}")
        result: Result = self._quantized(recipe)
        numbers = Numbers(result.quantized, result.plan, result.statistics)
        measured = self._table.plans.trial.measure(lambda: numbers)
        drop = None if self._judge is None else self._judge.drop(result.graph, result.content)
        point = Point(result.report.file_bytes, measured.db, drop, recipe, is_whole=True)
        self._points.append((choice, result, point))
        return point

    def drop(self, choice: Choice, said: str) -> Drop:
        """Make the file of a choice, and return how much worse it is than the float model."""
        drop = self.make(choice, said).drop
        assert drop is not None
        return drop

    def within(self, most: int, start: dict[Unit, Candidate]) -> SearchResult:
        """Return the best file of at most `most` bytes.

        Raises:
            TfqError: none is that small.
        """
        limit = most
        for _ in range(MOST_FILES):
            point = self.make(refined(self._table, start, limit), f"at most {most} bytes")
            if point.bytes <= most:
                return self._result(self._points[-1])
            limit -= point.bytes - most
            start = best_within(self._table, limit)
        raise TfqError(f"max_bytes={most}: the smallest file that was made has {point.bytes} bytes")

    def quick(self, choice: dict[Unit, Candidate], most: float) -> SearchResult:
        """Return the file of a choice, timed as a whole."""
        self.make(choice, f"at most {most:g} of float's time")
        plans, result = self._table.plans, self._points[-1][1]
        ratio = file_ratio(plans.graph, plans.trial.samples[0], result.quantized)
        slow = f"the file takes {ratio:.2f} of float's time, more than {most:g}" if ratio > most else ""
        return replace(
            self._result(self._points[-1], slow), latency=ratio, predicted_latency=self._table.predicted_latency(choice)
        )

    def smallest(self, limit: float) -> SearchResult:
        """Return the smallest file whose drop is within the limit; where none is, the one that drops least."""
        kept = [each for each in self._points if each[2].drop and each[2].drop.value <= limit]
        if kept:
            return self._result(min(kept, key=lambda each: each[2].bytes))
        best = min(self._points, key=lambda each: each[2].drop.value if each[2].drop else 0.0)
        return self._result(best, f"no file of these candidates keeps to a drop of {limit:g}: {best[2].drop}")

    def _result(self, best: tuple[Choice, Result, Point], problem: str = "") -> SearchResult:
        choice, result, point = best
        points = [*(each[2] for each in self._points), *self._put_together()]
        frontier = Frontier(tuple(sorted(points, key=lambda each: each.bytes)), self._table.float_bytes)
        layers = tuple(self._row(unit, choice[unit]) for unit in self._table.units)
        predicted = self._table.predicted_bytes(choice)
        return SearchResult(result, point, layers, frontier, self._table.float_bytes, predicted, problem)

    def _put_together(self) -> Iterator[Point]:
        """Yield points at sizes between the smallest and the most exact file, from codes that are fitted already."""
        for choice in sizes_between(self._table):
            size = self._table.plans.size(choice)
            recipe = recipe_of(choice, self._table.plans.default(choice), "search", f"found by search: {size} bytes")
            yield Point(size, self._table.plans.decibels(choice), None, recipe, is_whole=False)

    def _row(self, unit: Unit, chosen: Candidate) -> LayerChoice:
        table = self._table
        least = min(table.bytes[unit, c] for c in table.candidates)
        return LayerChoice(
            unit.name,
            chosen.name,
            {c.name: round(table.bytes[unit, c] - least) for c in table.candidates},
            {c.name: table.noise[unit, c] for c in table.candidates},
        )
