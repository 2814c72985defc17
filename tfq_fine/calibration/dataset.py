"""The representative data that a caller gave, and how it is to be read: here, or in shards by an executor.

Rewritten forms of a model have ranges of their own, so that data may be read several times. What can be read only once
is put aside on disk at the first time (`calibration.spool`).
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np

from tfq_converters.brief import brief
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_fine.calibration import (
    CalibrationResult,
    OnInvalid,
    ReadingOptions,
    Spool,
    gather,
    gather_shards,
    shard_shapes,
)
from tfq_fine.calibration.instrument import StatisticsRequest
from tfq_fine.data import Described, Peeked, known_count
from tfq_fine.request import check_options

IN_MEMORY = (np.ndarray, list, tuple, dict, str, os.PathLike, Spool)  # the same each time that it is read


@dataclass(frozen=True)
class CalibrationData:
    """Representative samples, and how they are read.

    `quantize(model, data=CalibrationData(images, num_samples=100, batch_size=8))` is the same as
    `quantize(model, data=images, num_samples=100, batch_size=8)`.

    Attributes:
        data: the samples, in any form that `tfq_fine.data` documents; None where there are none.
        num_samples: read at most this many samples (of each shard); None for all.
        batch_size: samples per run of the interpreter.
        on_invalid: a sample with NaN or infinity, or on which the model computes one, is an "error", or is to "skip".
        threads: the number of threads of the interpreter; all cores when None, and one with an executor.
        executor: any `concurrent.futures.Executor`, which reads and runs the shards: `data` is a list of shards then,
            or a function of a shard's index.
        shards: the number of shards, where `data` is a function.

    Raises:
        TfqError: an option that means nothing; all of them in one error.
    """

    __repr__ = brief

    data: Any = None
    num_samples: int | None = None
    batch_size: int = 1
    on_invalid: OnInvalid = "error"
    threads: int | None = None
    executor: Executor | None = None
    shards: int | None = None

    def __post_init__(self) -> None:
        counts = {name: getattr(self, name) for name in ("num_samples", "batch_size", "shards", "threads")}
        check_options({"on_invalid": (self.on_invalid, get_args(OnInvalid))}, counts)
        if self.executor is None and self.shards is not None:
            raise TfqError(f"shards={self.shards} needs an executor: give executor=...")

    @classmethod
    def of(cls, data: Any, *options: Any) -> "CalibrationData":
        """Return `data` where it says how it is read, else `data` with the options, in the order of the attributes.

        Raises:
            TfqError: both are given, or as the class.
        """
        if not isinstance(data, CalibrationData):
            return cls(data, *options)
        pairs = zip(fields(cls)[1:], options, strict=True)
        twice = [f"{option.name}={value!r}" for option, value in pairs if value != option.default]
        if twice:
            raise TfqError(
                f"{', '.join(twice)}: given next to data=CalibrationData(...); pass it to CalibrationData instead"
            )
        return data


class Representative:
    """Data that is read once or several times.

    Args:
        given: the samples, and how they are read.
    """

    def __init__(self, given: CalibrationData):
        self.data, self.executor, self.shards = given.data, given.executor, given.shards
        self.num_samples = given.num_samples
        threads = given.threads or (1 if given.executor is not None else os.cpu_count() or 1)
        self.reading = ReadingOptions(given.num_samples, given.batch_size, threads, given.on_invalid)

    @property
    def is_given(self) -> bool:
        """Whether there is any data."""
        return self.data is not None

    @property
    def is_read_once(self) -> bool:
        """Whether a shard could not be read again after it was looked at."""
        return isinstance(self.data, list) and any(hasattr(shard, "__next__") for shard in self.data)

    @property
    def count(self) -> int | None:
        """How many samples there are; None where only reading tells."""
        if self.executor is not None or isinstance(self.data, Spool):
            return None
        return known_count(self.data, self.num_samples)

    @property
    def shapes(self) -> Callable[[Sequence[str]], list[list[Described]]] | None:
        """The data that tells input shapes to a model that does not know them; None where nothing does."""
        return self._shapes if self.is_given else None

    def _shapes(self, names: Sequence[str]) -> list[list[Described]]:
        if self.executor is not None:
            self.data, shapes = shard_shapes(self.data, self.shards, self.executor, names)
            return shapes
        peeked = Peeked(self.data)
        described = peeked.shapes(names)
        self.data = peeked.data
        return described

    def gather(
        self,
        graph: Graph,
        needs: StatisticsRequest | None,
        advance: Callable[[int], None] | None = None,
        aside: Path | None = None,
    ) -> CalibrationResult:
        """Read all of it: what `needs` asks for, and a few samples.

        Args:
            graph: the float graph.
            needs: what to find out; None when that is nothing.
            advance: called with the number of samples after each run.
            aside: a temporary folder where data is put that may be another when it is read again, or gone.
        """
        if self.executor is not None:
            return gather_shards(graph, self.data, self.shards, self.executor, needs, self.reading, advance)
        spool = Spool(aside) if aside is not None and not isinstance(self.data, IN_MEMORY) else None
        result = gather(graph, self.data, needs, self.reading, advance, spool)
        if spool is not None:
            self.data = spool
        return result
