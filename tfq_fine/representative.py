"""The representative data that a caller gave, and how it is to be read: here, or in shards by an executor."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_fine.calibration import Gathered, OnInvalid, Reading, first_samples, gather, gather_shards
from tfq_fine.data import Described, Peeked, input_specs, known_count
from tfq_fine.observation import Needs
from tfq_fine.sampling import Sample


@dataclass
class Representative:
    """Data that is looked at first, and read once afterwards.

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
        return None if self.executor is not None else known_count(self.data, self.num_samples)

    def first(self, graph: Graph, count: int) -> Sequence[Sample]:
        """The first samples; the data can still be read."""
        count = min(count, self.num_samples or count)
        if self.executor is not None:
            return first_samples(graph, self.data, self.shards, self.executor, self.reading, count)
        peeked = Peeked(self.data)
        found = peeked.first(input_specs(graph), count, finite=self.on_invalid == "error")
        self.data = peeked.data
        return found

    @property
    def shapes(self) -> Callable[[Sequence[str]], list[list[Described]]] | None:
        """What tells the shapes of the inputs of a model that does not know them; None where nothing does."""
        return self._shapes if self.is_given and self.executor is None else None

    def _shapes(self, names: Sequence[str]) -> list[list[Described]]:
        peeked = Peeked(self.data)
        found = peeked.shapes(names)
        self.data = peeked.data
        return found

    def gather(
        self, graph: Graph, needs: Needs | None, kept: int = 1, advance: Callable[[int], None] | None = None
    ) -> Gathered:
        """Read all of it: what `needs` asks for, and a few samples."""
        how = replace(self.reading, kept=kept)
        if self.executor is None:
            return gather(graph, self.data, needs, how, advance)
        return gather_shards(graph, self.data, self.shards, self.executor, needs, how, advance)
