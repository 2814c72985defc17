"""`search`: the best file within a budget."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from tfq_converters.errors import TfqError, extras_named
from tfq_converters.graph import AnyArray
from tfq_converters.kernels import DEFAULT_RUNTIMES
from tfq_fine.calibration import CalibrationData, Representative, Sample
from tfq_fine.mixed_precision.budget import Budget
from tfq_fine.mixed_precision.conditions import Conditions, Job, started
from tfq_fine.mixed_precision.exploration import Measuring, explored
from tfq_fine.mixed_precision.finished_files import FinishedFiles
from tfq_fine.mixed_precision.labelled import Labelled, by_name, drawn, labels_by_content, read_labelled, read_once
from tfq_fine.mixed_precision.measures import MEASURES
from tfq_fine.mixed_precision.result import SearchResult
from tfq_fine.mixed_precision.units import candidates_of, default_candidates
from tfq_fine.mixed_precision.within_drop import within_drop
from tfq_fine.mixed_precision.within_latency import best_within_time
from tfq_fine.request import OpSpec, Quality, Recipe, check_options


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
    measure: str = "sqnr",
    refit: bool = True,
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
        labels: labels of the samples, unless `data` holds them; for `max_drop` and for `measure="loss"`.
        metric: as in `verify`; for `max_drop`.
        candidates: what each layer may get: names of recipes, recipes without rules, specs, or "float". None: float,
            float16 and weights of 8, 4 and 2 bits in mode weight_only; for `max_latency`, float, dynamic_int8 and
            full_int8; for compilers such as Vela ("ethos-u"), full_int8, full_w4a8 and full_int16x8.
        measure: what layers are compared by: "sqnr", the share of noise in the outputs; "kl", the divergence of the
            probabilities from the float model's; "loss", the rise of the task's loss on labelled samples;
            "second_order", the share of noise as gradients of the float model estimate it, which takes time in
            proportion to the layers, where the others run the rest of the model after each layer.
        refit: the file of a choice is also made by `quantize`, which fits its weights anew, and the better one is
            handed over; False for the one alone that is put together from what was fitted already, at once.
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
    budget = Budget.of(max_bytes, max_drop, max_latency, metric)
    check_options({"measure": (measure, [*MEASURES])}, {})
    reads_labels = MEASURES[measure].reads_labels
    if labels is not None and max_drop is None and not reads_labels:
        raise TfqError("labels are read for max_drop and measure='loss' alone")
    conditions = Conditions.of(
        runtimes=runtimes,
        quality=quality,
        num_samples=num_samples,
        executor=executor,
        cache_dir=cache_dir,
        progress=progress,
        safe_mode=safe_mode,
        timeout=timeout,
    )
    chosen = candidates_of(candidates or default_candidates(conditions.target, max_latency is not None))
    with started(model, data, conditions, "search") as job:
        job, judge, label_of = _with_labels(job, budget, labels, reads_labels)
        table = explored(
            job.source.graph,
            job.material,
            chosen,
            conditions,
            job.files,
            job.shown,
            job.float_bytes,
            is_timed=budget.max_latency is not None,
            measuring=Measuring(measure, label_of),
            are_named=candidates is not None,
        )
        made = FinishedFiles(model, job, table, conditions, judge, refit)
        with job.shown.stage("choosing and making files"):
            if judge is not None and budget.max_drop is not None:
                limit = judge.limit(budget.max_drop)
                within_drop(table, judge, limit, lambda choice: made.drop(choice, limit))
                return made.smallest(limit)
            if table.times is not None and budget.max_latency is not None:
                return made.within_time(best_within_time(table, table.times, budget.max_latency), budget.max_latency)
            return made.within_bytes(budget.bytes_of(job.float_bytes))


def _with_labels(
    job: Job, budget: Budget, labels: Any, reads_labels: bool
) -> tuple[Job, Labelled | None, Callable[[Sample], AnyArray] | None]:
    """Return (the job with data that can be read again, what decides about a drop, the labels of samples).

    Args:
        job: the job, with the data as the user gave it.
        budget: the budget.
        labels: labels, unless the data holds them.
        reads_labels: whether the measure does.

    Raises:
        TfqError: bad data, no labels, or too few samples.
    """
    graph, material = job.source.graph, job.material
    if budget.metric is None and not reads_labels:
        if not hasattr(material.data, "__next__"):
            return job, None, None
        return _reading(job, read_once(graph, material.data, material.num_samples)), None, None
    reader = "measure='loss'" if budget.metric is None else "max_drop"
    samples, kept = read_labelled(graph, material.data, labels, material.num_samples, reader)
    label_of = labels_by_content(samples, kept) if reads_labels else None
    if budget.metric is None:
        return _reading(job, by_name(graph, samples)), None, label_of
    calibrating, deciding = drawn(len(samples))
    decides, truth = [samples[n] for n in deciding], np.concatenate([kept[n] for n in deciding])
    judge = Labelled(graph, decides, truth, budget.metric, os.cpu_count() or 1)
    return _reading(job, by_name(graph, [samples[n] for n in calibrating])), judge, label_of


def _reading(job: Job, samples: Sequence[Any]) -> Job:
    """Return the job on samples that are held."""
    return replace(job, material=Representative(CalibrationData(partial(iter, samples))))
