"""One pass over the representative data: the range of every float tensor, and the channel means that corrections need.

Everything is computed inside the graph on the fast kernels (`observation`); at most one batch is held per thread.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import ABSENT, Graph
from tfq_converters.runner_pool import RunnerPool
from tfq_converters.runtime import Runner
from tfq_converters.unrunnable import known_part
from tfq_converters.weights import BIAS_SLOT, bias_of, data_of, weight_axes
from tfq_fine.data import Batch
from tfq_fine.observation import Needs, Observed, moved_from, observed
from tfq_fine.statistics import Range, Statistics

SMALL_BYTES = 32 * 2**20  # of constants, which every interpreter holds packed for itself


def range_needs(graph: Graph) -> Needs:
    """The range of every float tensor of the main subgraph that is fed or computed."""
    main = known_part(graph).main
    computed = {*main.inputs} | {t for op in main.ops for t in op.outputs}
    return Needs(ranges=tuple((0, t) for t in sorted(computed) if main.tensors[t].dtype == "float32"))


def mean_needs(graph: Graph) -> Needs:
    """The channel means of the input of every operator that has weights and a bias."""
    main = known_part(graph).main
    found: dict[int, None] = {}
    for op in main.ops:
        if op.code in BIAS_SLOT and weight_axes(op, main) and bias_of(op) != ABSENT:
            t = data_of(op)
            if not main.tensors[t].is_constant and main.tensors[t].shape:
                found[t] = None
    return Needs(means=tuple((0, t) for t in found))


def calibrate(graph: Graph, batches: Iterable[Batch], needs: Needs | None = None, threads: int = 1) -> Statistics:
    """What `needs` asks for, over all samples.

    Args:
        graph: the float graph.
        batches: representative inputs, in input order; read once.
        needs: what to find out; the ranges of every float tensor and the means of linear operators when None.
        threads: that compute: an interpreter each where the model is small and keeps no state, else of one
            interpreter. What is found does not depend on it.

    Raises:
        TfqError: the data is empty, or a tensor became NaN or infinite (the first one and the sample are named).
    """
    if needs is None:
        needs = Needs(range_needs(graph).ranges, mean_needs(graph).means)
    extended = observed(known_part(graph), needs)
    low = np.full(len(extended.ranges), np.inf, np.float32)
    high = np.full(len(extended.ranges), -np.inf, np.float32)
    sums = np.zeros(sum(extended.channels), np.float64)
    samples = 0
    for batch, found in _observations(extended, batches, threads):
        samples += batch.count
        if not all(np.isfinite(values).all() for values in found):
            raise TfqError(_not_finite(graph, extended, found, batch.first))
        if extended.ranges:
            np.minimum(low, found[0][: len(low)], out=low)
            np.maximum(high, found[0][len(low) :], out=high)
        if extended.means:
            sums += found[-1].astype(np.float64) * batch.count
    if not samples:
        raise TfqError("no representative data: the data holds no samples")
    ranges = {key: Range(a, b) for key, a, b in zip(extended.ranges, low.tolist(), high.tolist(), strict=True)}
    moved = moved_from(graph)
    means = np.split(sums / samples, np.cumsum(extended.channels)[:-1]) if extended.means else []
    return Statistics(
        {(0, t): ranges[0, moved.get(t, t)] for _, t in needs.ranges},
        samples,
        dict(zip(extended.means, means, strict=True)),
    )


@dataclass(frozen=True)
class _Seen:
    """What is remembered of a batch while it runs."""

    first: int
    count: int


def _observations(
    extended: Observed, batches: Iterable[Batch], threads: int
) -> Iterator[tuple[_Seen, list[np.ndarray]]]:
    """(batch, outputs of the extended graph), in the order of the batches."""
    if not extended.ranges and not extended.means:
        for batch in batches:
            yield _Seen(batch.first, batch.count), []
        return
    workers = threads if _runs_side_by_side(extended.graph) else 1
    with flatbuffer.scratch(extended.graph) as path:
        pool = RunnerPool(lambda: Runner(path, threads=threads if workers == 1 else 1), workers)
    running: deque[_Seen] = deque()

    def inputs() -> Iterator[tuple[np.ndarray, ...]]:
        for batch in batches:
            running.append(_Seen(batch.first, batch.count))
            yield batch.inputs

    for found in pool.run_all(inputs()):
        yield running.popleft(), found


def _runs_side_by_side(graph: Graph) -> bool:
    """Whether samples may run in several interpreters: the model keeps no state, and is held several times at ease."""
    tensors = [tensor for subgraph in graph.subgraphs for tensor in subgraph.tensors]
    stateful = any(tensor.is_variable or tensor.dtype == "resource" for tensor in tensors)
    return not stateful and sum(tensor.data.nbytes for tensor in tensors if tensor.data is not None) <= SMALL_BYTES


def _not_finite(graph: Graph, extended: Observed, found: list[np.ndarray], sample: int) -> str:
    limits = np.split(found[0], 2) if extended.ranges else [np.zeros(0)] * 2
    bad = {key for key, *pair in zip(extended.ranges, *limits, strict=True) if not np.isfinite(pair).all()}
    where = f"at sample {sample} or in its batch"
    for index, op in enumerate(graph.main.ops):
        if any((0, t) in bad for t in op.outputs):
            return f"{graph.main.op_name(index)} computes NaN or infinity in float, {where}"
    return f"the float model computes NaN or infinity, {where}"
