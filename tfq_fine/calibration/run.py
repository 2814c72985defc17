"""One pass over the representative data on the fast kernels; at most one batch is held per thread.

Everything is computed inside the graph (`instrument`) and added up (`accumulators`).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import AnyArray, Graph
from tfq_converters.runtime import Runner, RunnerPool
from tfq_fine.calibration.accumulators import Totals
from tfq_fine.calibration.instrument import InstrumentedGraph, RunResult, StatisticsRequest, instrumented
from tfq_fine.calibration.kept_samples import KeptSamples
from tfq_fine.calibration.needs import mean_needs, range_needs
from tfq_fine.calibration.not_finite import first_not_finite
from tfq_fine.calibration.statistics import Statistics
from tfq_fine.data import Batch, input_specs, singles

SMALL_BYTES = 32 * 2**20  # constants, which every interpreter holds packed for itself
OnInvalid = Literal["error", "skip"]


def calibrate(
    graph: Graph,
    batches: Iterable[Batch],
    needs: StatisticsRequest | None = None,
    threads: int = 1,
    on_invalid: OnInvalid = "error",
    advance: Callable[[int], None] | None = None,
) -> Statistics:
    """Run the model on all samples and return the requested statistics.

    An interrupt (Ctrl-C) ends the pass and keeps what was gathered, with a warning in the statistics.

    Args:
        graph: the float graph.
        batches: representative inputs, in input order; read once.
        needs: what to find out; the ranges of every float tensor and the means of linear operators when None.
        threads: threads that compute: an interpreter each where the model is small and keeps no state, else of one
            interpreter. The statistics do not depend on it.
        on_invalid: a sample on which a tensor becomes NaN or infinite is an "error", or is to "skip": left out and
            counted.
        advance: called with the number of samples after each run.

    Raises:
        TfqError: the data is empty, or a tensor became NaN or infinite (the first one and the sample are named).
        KeyboardInterrupt: before the first sample was done.
    """
    if needs is None:
        needs = range_needs(graph).also(mean_needs(graph))
    extended = instrumented(graph, needs)
    totals, specs = Totals(graph, extended), input_specs(graph)
    if needs.histograms or needs.extremes or needs.moving or on_invalid == "skip":
        batches = singles(batches, specs)
    if on_invalid == "skip":
        batches = _finite(batches, totals)
    kept = KeptSamples(bool(needs.inputs))
    try:
        for batch, reading in _readings(extended, batches, threads):
            if reading.is_finite:
                totals.add(reading, batch.count)
                for single in singles([batch], specs):
                    kept.keep(single.inputs)
            elif on_invalid == "skip":
                totals.skip(batch.count)
            else:
                raise TfqError(_not_finite(graph, extended, reading, batch))
            if advance is not None:
                advance(batch.count)
    except KeyboardInterrupt:
        if not totals.samples:
            raise
        totals.interrupted = True
    if not totals.samples:
        raise TfqError(
            "no representative data: the data holds no samples"
            + (f" but the {totals.skipped} that were skipped for NaN or infinity" if totals.skipped else "")
        )
    return replace(totals.statistics(needs), kept=kept.samples, fitted=bool(needs.inputs))


def calibrate_each(
    graph: Graph, batches: Iterable[Batch], needs: StatisticsRequest, threads: int = 1
) -> list[Statistics]:
    """Return the statistics of every batch by itself, with one interpreter for all of them.

    Args:
        graph: the float graph.
        batches: inputs, in input order.
        needs: what to find out.
        threads: the number of threads of the interpreter.

    Raises:
        TfqError: a tensor became NaN or infinite.
    """
    extended, each = instrumented(graph, needs), []
    for batch, reading in _readings(extended, batches, threads, side_by_side=False):
        if not reading.is_finite:
            raise TfqError(_not_finite(graph, extended, reading, batch))
        totals = Totals(graph, extended)
        totals.add(reading, batch.count)
        each.append(totals.statistics(needs))
    return each


def _finite(batches: Iterable[Batch], totals: Totals) -> Iterator[Batch]:
    """Yield the batches without NaN and infinity; REDUCE_MIN and REDUCE_MAX do not see the former."""
    for batch in batches:
        if batch.is_finite:
            yield batch
        else:
            totals.skip(batch.count)


def _readings(
    extended: InstrumentedGraph, batches: Iterable[Batch], threads: int, side_by_side: bool = True
) -> Iterator[tuple[Batch, RunResult]]:
    """Yield (copy of a batch, what the instrumented graph showed), in the order of the batches."""

    def seen(batch: Batch) -> Batch:  # the caller may use its arrays again
        return Batch(tuple(array.copy() for array in batch.inputs), None, batch.first, batch.count)

    if not extended.graph.main.outputs:
        for batch in batches:
            yield seen(batch), extended.read([])
        return
    workers = threads if side_by_side and runs_side_by_side(extended.graph) else 1
    with flatbuffer.scratch(extended.graph) as path:
        pool = RunnerPool(lambda: Runner(path, threads=threads if workers == 1 else 1), workers)
    running: deque[Batch] = deque()

    def inputs() -> Iterator[tuple[AnyArray, ...]]:
        for batch in batches:
            running.append(seen(batch))
            yield batch.inputs

    for outputs in pool.run_all(inputs()):
        yield running.popleft(), extended.read(outputs)


def runs_side_by_side(graph: Graph) -> bool:
    """Return whether samples may run in several interpreters: no state, and small enough to be held several times."""
    tensors = [tensor for subgraph in graph.subgraphs for tensor in subgraph.tensors]
    stateful = any(tensor.is_variable or tensor.dtype == "resource" for tensor in tensors)
    return not stateful and sum(tensor.data.nbytes for tensor in tensors if tensor.data is not None) <= SMALL_BYTES


def _not_finite(graph: Graph, extended: InstrumentedGraph, reading: RunResult, seen: Batch) -> str:
    pairs = zip(extended.needs.ranges, reading.low, reading.high, strict=True)
    bad = {key for key, *limits in pairs if not np.isfinite(limits).all()}
    where = f"at sample {seen.first} or in its batch"
    for t, name in zip(graph.main.inputs, graph.input_names(), strict=True):
        if (0, t) in bad:
            return f"input {name!r} holds NaN or infinity, {where}"
    first = first_not_finite(graph, seen.inputs)
    for index, op in enumerate(graph.main.ops):
        if index == first or any((0, t) in bad for t in op.outputs):
            return f"{graph.main.op_name(index)} computes NaN or infinity in float, {where}"
    return f"the float model computes NaN or infinity, {where}"
