"""The representative data that a caller gave, and how it is to be read: here, or in shards by an executor.

Rewritten forms of a model have ranges of their own, so that data may be read several times. What can be read only once
is put aside on disk at the first time (`calibration.spool`).
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_fine.calibration import Gathered, OnInvalid, Reading, Spool, gather, gather_shards, shard_shapes
from tfq_fine.data import Described, Peeked, known_count
from tfq_fine.observation import Needs

IN_MEMORY = (np.ndarray, list, tuple, dict, str, os.PathLike, Spool)  # the same each time that it is read


@dataclass
class Representative:
    """Data that is read once or several times.

    Raises:
        TfqError: a number of shards without an executor to read them.
    """

    data: Any  # None where there is none
    num_samples: int | None = None
    batch_size: int = 1
    on_invalid: OnInvalid = "error"
    threads: int | None = None  # all cores when None, one with an executor
    executor: Executor | None = None
    shards: int | None = None

    def __post_init__(self) -> None:
        if self.executor is None and self.shards is not None:
            raise TfqError(f"shards={self.shards} needs an executor: give executor=...")
        threads = self.threads or (1 if self.executor is not None else os.cpu_count() or 1)
        self.reading = Reading(self.num_samples, self.batch_size, threads, self.on_invalid)

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
        """What tells the shapes of the inputs of a model that does not know them; None where nothing does."""
        return self._shapes if self.is_given else None

    def _shapes(self, names: Sequence[str]) -> list[list[Described]]:
        if self.executor is not None:
            self.data, shapes = shard_shapes(self.data, self.shards, self.executor, names)
            return shapes
        peeked = Peeked(self.data)
        found = peeked.shapes(names)
        self.data = peeked.data
        return found

    def gather(
        self, graph: Graph, needs: Needs | None, advance: Callable[[int], None] | None = None, aside: Path | None = None
    ) -> Gathered:
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
        found = gather(graph, self.data, needs, self.reading, advance, spool)
        if spool is not None:
            self.data = spool
        return found
