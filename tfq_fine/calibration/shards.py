"""The representative data, read once: the statistics, and the few samples that later stages run the model on."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from itertools import islice
from pickle import PicklingError
from typing import Any, TypeVar

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_fine.calibration.instrument import StatisticsRequest
from tfq_fine.calibration.kept_samples import LEAST, KeptSamples, Sample
from tfq_fine.calibration.run import OnInvalid, calibrate
from tfq_fine.calibration.spool import Spool
from tfq_fine.calibration.statistics import INTERRUPTED, Statistics
from tfq_fine.data import (
    Batch,
    Described,
    Peeked,
    batches,
    input_specs,
    singles,
)

Shards = Sequence[Any] | Callable[[int], Any]
T = TypeVar("T")


@dataclass(frozen=True)
class ReadingOptions:
    """How data is read."""

    num_samples: int | None = None
    batch_size: int = 1
    threads: int = 1
    on_invalid: OnInvalid = "error"


@dataclass(frozen=True)
class CalibrationResult:
    """The statistics and samples that reading the data gave."""

    statistics: Statistics | None  # None where no statistics were needed
    samples: tuple[Sample, ...] = field(repr=False)  # a few, in the order of their digests

    @property
    def requested(self) -> Statistics:
        """The statistics, where some were requested.

        Raises:
            TypeError: none were.
        """
        if self.statistics is None:
            raise TypeError("the data was read without a request for statistics")
        return self.statistics

    def then(self, other: "CalibrationResult") -> "CalibrationResult":
        """Put together what this data and `other`, which comes after it, showed."""
        if self.statistics is None or other.statistics is None:
            return CalibrationResult(None, KeptSamples.of((*self.samples, *other.samples)))
        merged = self.statistics.merge(other.statistics)
        return CalibrationResult(merged, merged.kept)


def gather(
    graph: Graph,
    data: Any,
    needs: StatisticsRequest | None,
    how: ReadingOptions,
    advance: Callable[[int], None] | None = None,
    spool: Spool | None = None,
) -> CalibrationResult:
    """Read `data` once; no more than its first `LEAST` samples when nothing is needed.

    Args:
        graph: the float graph.
        data: in any form that `tfq_fine.data` documents, or what a `Spool` recorded.
        needs: the statistics to gather; None when there are none.
        how: options for reading the data.
        advance: called with the number of samples after each run.
        spool: records what is read, so that it can be read again.

    Raises:
        TfqError: bad data (`tfq_fine.data`, `calibrate`).
    """
    left_over: list[int] = []
    read: Iterable[Batch]
    if isinstance(data, Spool):
        read = data.batches()
        left_over.append(data.left_over)
    else:
        read = batches(
            data,
            input_specs(graph),
            batch_size=how.batch_size,
            limit=how.num_samples,
            finite=how.on_invalid == "error",
            left_over=left_over.append,
        )
    if spool is not None:
        read = spool.recorded(read)
    if needs is None:
        finite = (batch for batch in singles(read, input_specs(graph)) if batch.is_finite)
        copies = (tuple(array.copy() for array in batch.inputs) for batch in islice(finite, LEAST))
        return CalibrationResult(None, KeptSamples.of(copies))
    statistics = calibrate(graph, read, needs, how.threads, how.on_invalid, advance)
    if spool is not None:
        spool.left_over = sum(left_over)
    if any(left_over):
        said = (
            f"{sum(left_over)} samples were left out: they do not fill a batch of the fixed size that the model takes"
        )
        statistics = replace(statistics, warnings=(*statistics.warnings, said))
    return CalibrationResult(statistics, statistics.kept)


def gather_shards(
    graph: Graph,
    shards: Shards,
    count: int | None,
    executor: Executor,
    needs: StatisticsRequest | None,
    how: ReadingOptions,
    advance: Callable[[int], None] | None = None,
) -> CalibrationResult:
    """Calibrate on shards of the data, each read and run by the executor, and merge the results in order.

    Args:
        graph: the float graph; its bytes travel with every task.
        shards: data in any form that the executor can send, one after the other; or a function of a shard's index
            that returns such data, which is called where the shard is read.
        count: how many shards there are, where `shards` is a function.
        executor: any `concurrent.futures.Executor`. One that runs tasks of lost workers again, as Dask's does, finds
            the same as if none had been lost.
        needs: the statistics to gather.
        how: options for reading the data of each shard.
        advance: called with the number of samples of every shard that is done, in order.

    Raises:
        TfqError: no shards, or what `gather` raises, with the shard's index.
    """
    content = flatbuffer.write(graph)
    _number(shards, count)
    futures = [executor.submit(_calibrate_shard, content, piece, n, needs, how) for n, piece in _pieces(shards, count)]
    done: list[CalibrationResult] = []
    interrupted = False
    try:
        for n, future in enumerate(futures):
            done.append(result_of(future, f"shard {n}"))
            if advance is not None and done[-1].statistics is not None:
                advance(done[-1].statistics.samples)
    except KeyboardInterrupt:
        if not done:
            raise
        interrupted = True
    finally:
        for future in futures:
            future.cancel()
    result = done[0]
    for piece in done[1:]:
        result = result.then(piece)
    if interrupted and result.statistics is not None:
        said = f"{INTERRUPTED}: the statistics are those of the first {len(done)} shards"
        warned = replace(result.statistics, warnings=(*result.statistics.warnings, said))
        result = replace(result, statistics=warned)
    return result


def shard_shapes(
    shards: Shards, count: int | None, executor: Executor, names: Sequence[str]
) -> tuple[Shards, list[list[Described]]]:
    """Look at the first element of the first shard, as `data.Peeked` does; returns shards that still have it.

    A function is called where the shard is read, by the executor.

    Raises:
        TfqError: no shards, or what `Peeked` raises.
    """
    _number(shards, count)
    if callable(shards):
        return shards, result_of(executor.submit(_shapes, shards, names), "shard 0")
    first, *others = shards
    peeked = Peeked(first)
    shapes = peeked.shapes(names)
    return [peeked.data, *others], shapes


def _shapes(shard: Callable[[int], Any], names: Sequence[str]) -> list[list[Described]]:
    """Return the shapes of the first shard; an executor runs this."""
    return Peeked(shard(0)).shapes(names)


def _number(shards: Shards, count: int | None) -> int:
    if callable(shards) != (count is not None):
        raise TfqError(
            "with an executor, data is a list of shards, or a function of a shard's index together with shards=N; "
            f"found {type(shards).__name__} and shards={count}"
        )
    number = count if count is not None else len(shards)  # type: ignore[arg-type]
    if isinstance(shards, dict | str) or hasattr(shards, "shape") or number < 1:
        raise TfqError(f"with an executor, data is a list of at least one shard; found {type(shards).__name__}")
    return number


def _pieces(shards: Shards, count: int | None) -> list[tuple[int, Any]]:
    if callable(shards):
        return [(n, shards) for n in range(count or 0)]
    return list(enumerate(_ShardData(piece) for piece in shards))


@dataclass(frozen=True)
class _ShardData:
    """A shard whose data was passed itself, not a function."""

    data: Any

    def __call__(self, index: int) -> Any:
        return self.data


def _calibrate_shard(
    content: bytes, shard: Callable[[int], Any], index: int, needs: StatisticsRequest | None, how: ReadingOptions
) -> CalibrationResult:
    """Calibrate on one shard; an executor runs this."""
    return gather(flatbuffer.read(content), shard(index), needs, how)


def result_of(future: "Future[T]", what: str) -> T:
    """Return the result of a task that an executor ran.

    Raises:
        TfqError: the task raised one, could not be sent, or was lost; `what` it was about begins the message.
    """
    try:
        return future.result()
    except TfqError as error:
        raise TfqError(f"{what}: {error}") from error
    except PicklingError as error:
        raise TfqError(f"{what}: it cannot be sent to the executor: {error}") from error
    except (BrokenProcessPool, CancelledError) as error:
        raise TfqError(f"{what}: the executor lost it ({error or type(error).__name__})") from error
