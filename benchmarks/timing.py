"""Time several functions in turns, so that a change of the machine's speed affects all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time_ns

Clock = Callable[[], int]
FEWEST_ROUNDS = 5


@dataclass(frozen=True)
class Times:
    """The times of several runs, measured in turns: run -> nanoseconds (rounds,)."""

    rounds: Mapping[str, tuple[float, ...]]

    def __add__(self, later: Times) -> Times:
        return Times({name: (*rounds, *later.rounds[name]) for name, rounds in self.rounds.items()})

    def median(self, name: str) -> float:
        """Nanoseconds of a typical run."""
        return median(self.rounds[name])

    def ratio(self, name: str, reference: str) -> float:
        """Median of the rounds' ratios to `reference`: both of a pair ran at about the same speed of the machine.

        >>> Times({"a": (1.0, 10.0, 3.0), "b": (2.0, 20.0, 3.0)}).ratio("b", "a")
        2.0
        """
        return median(ours / theirs for ours, theirs in zip(self.rounds[name], self.rounds[reference], strict=True))


def in_turns(
    runs: Mapping[str, Callable[[], object]],
    seconds: float = 2.0,
    fewest_rounds: int = FEWEST_ROUNDS,
    least_ns: int = 2_000_000,
    clock: Clock = process_time_ns,
) -> Times:
    """Run each once to warm up, then all in turns, every other round in reverse.

    Args:
        runs: what to time.
        seconds: about how long to measure in all.
        fewest_rounds: to run even if it takes longer.
        least_ns: of one timed batch; shorter runs are repeated to fill it.
        clock: nanoseconds; CPU time of this process by default, so that what other processes take is not counted.
    """
    counts = {name: max(1, int(least_ns / _batch(run, 2, clock))) for name, run in runs.items()}
    rounds: dict[str, list[float]] = {name: [] for name in runs}
    order, start, done = list(runs), perf_counter(), 0
    while done < fewest_rounds or perf_counter() - start < seconds:
        for name in order:
            rounds[name].append(_batch(runs[name], counts[name], clock))
        order.reverse()
        done += 1
    return Times({name: tuple(times) for name, times in rounds.items()})


def _batch(run: Callable[[], object], count: int, clock: Clock) -> float:
    """Nanoseconds of one of `count` runs."""
    start = clock()
    for _ in range(count):
        run()
    return max(clock() - start, 1) / count
