"""The representative data, read once: the statistics, and the few samples that later stages run the model on."""

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_fine.calibration.passes import OnInvalid, calibrate
from tfq_fine.data import Peeked, batches, input_specs
from tfq_fine.observation import Needs
from tfq_fine.sampling import KeptSamples, Sample
from tfq_fine.statistics import Statistics

Shards = Sequence[Any] | Callable[[int], Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Reading:
    """How data is read."""

    num_samples: int | None = None
    batch_size: int = 1
    threads: int = 1
    on_invalid: OnInvalid = "error"
    kept: int = 1  # samples: the first one alone, or this many to twice as many over all of the data


@dataclass(frozen=True)
class Gathered:
    """What the data showed."""

    statistics: Statistics | None  # None where no statistics were needed
    samples: tuple[Sample, ...] = field(repr=False)  # a batch each

    def then(self, other: "Gathered") -> "Gathered":
        """What this data and `other`, which comes after it, showed."""
        if self.statistics is None or other.statistics is None:
            return Gathered(None, self.samples + other.samples)
        return Gathered(self.statistics.merge(other.statistics), self.samples + other.samples)


def gather(
    graph: Graph, data: Any, needs: Needs | None, how: Reading, advance: Callable[[int], None] | None = None
) -> Gathered:
    """Read `data` once; no more than its first batch when nothing is needed.

    Raises:
        TfqError: bad data (`tfq_fine.data`, `calibrate`).
    """
    left_over: list[int] = []
    read = batches(
        data,
        input_specs(graph),
        batch_size=how.batch_size,
        limit=how.num_samples,
        finite=how.on_invalid == "error",
        left_over=left_over.append,
    )
    if needs is None:
        first = next((batch for batch in read if batch.is_finite), None)
        return Gathered(None, () if first is None else (first.inputs,))
    kept = KeptSamples(how.kept)
    found = calibrate(graph, read, needs, how.threads, how.on_invalid, advance, kept)
    if left_over:
        said = (
            f"{sum(left_over)} samples were left out: they do not fill a batch of the fixed size that the model takes"
        )
        found = replace(found, warnings=(*found.warnings, said))
    return Gathered(found, kept.samples)


def gather_shards(
    graph: Graph,
    shards: Shards,
    count: int | None,
    executor: Executor,
    needs: Needs | None,
    how: Reading,
    advance: Callable[[int], None] | None = None,
) -> Gathered:
    """The same from shards of the data, each read and run by the executor, and put together in their order.

    Args:
        graph: the float graph; its bytes travel with every task.
        shards: data in any form that the executor can send, one after the other; or a function of a shard's index
            that returns such data, which is called where the shard is read.
        count: how many shards there are, where `shards` is a function.
        executor: any `concurrent.futures.Executor`. One that runs tasks of lost workers again, as Dask's does, finds
            the same as if none had been lost.
        needs: what to find out.
        how: the data of each shard is read.
        advance: called with the number of samples of every shard that is done, in order.

    Raises:
        TfqError: no shards, or what `gather` raises, with the shard's index.
    """
    content = flatbuffer.write(graph)
    how = replace(how, kept=max(1, -(-how.kept // _number(shards, count))))
    futures = [executor.submit(_gathered, content, piece, n, needs, how) for n, piece in _pieces(shards, count)]
    done: list[Gathered] = []
    interrupted = False
    try:
        for n, future in enumerate(futures):
            done.append(_result(future, n))
            if advance is not None and done[-1].statistics is not None:
                advance(done[-1].statistics.samples)
    except KeyboardInterrupt:
        if not done:
            raise
        interrupted = True
    finally:
        for future in futures:
            future.cancel()
    found = done[0]
    for piece in done[1:]:
        found = found.then(piece)
    if interrupted and found.statistics is not None:
        said = f"calibration was interrupted: the statistics are those of the first {len(done)} shards"
        warned = replace(found.statistics, warnings=(*found.statistics.warnings, said))
        found = replace(found, statistics=warned)
    return found


def first_samples(
    graph: Graph, shards: Shards, count: int | None, executor: Executor, how: Reading, number: int
) -> list[Sample]:
    """The first samples of the shards, no more than `number`, read by the executor; all is read again afterwards.

    Raises:
        TfqError: as `gather_shards`.
    """
    _number(shards, count)
    content, found = flatbuffer.write(graph), list[Sample]()
    for n, piece in _pieces(shards, count):
        finite = how.on_invalid == "error"
        found += _result(executor.submit(_first_samples, content, piece, n, number - len(found), finite), n)
        if len(found) >= number:
            break
    return found


def _first_samples(content: bytes, shard: Callable[[int], Any], index: int, number: int, finite: bool) -> list[Sample]:
    """What an executor runs."""
    return Peeked(shard(index)).first(input_specs(flatbuffer.read(content)), number, finite)


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
    return list(enumerate(_Given(piece) for piece in shards))


@dataclass(frozen=True)
class _Given:
    """A shard that came as it is."""

    data: Any

    def __call__(self, index: int) -> Any:
        return self.data


def _gathered(content: bytes, shard: Callable[[int], Any], index: int, needs: Needs | None, how: Reading) -> Gathered:
    """What an executor runs."""
    return gather(flatbuffer.read(content), shard(index), needs, how)


def _result(future: "Future[T]", index: int) -> T:
    try:
        return future.result()
    except TfqError as error:
        raise TfqError(f"shard {index}: {error}") from error
    except (BrokenProcessPool, CancelledError) as error:
        raise TfqError(f"shard {index}: the executor lost it ({error or type(error).__name__})") from error
