"""Parts in float, as many as needed, for a network whose error comes from everywhere, not from single operators.

The graph is cut into parts at narrow places. Each part by itself is measured in float, which says what it brings for
the time that it costs. Parts become float in the order of that, or from the first on, or from the last on; of each
order the fewest that leave the outputs good enough are found by halving, and the quickest file of all orders is taken.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tfq_converters.graph import Float64Array, Subgraph
from tfq_fine.placement import How, running_time
from tfq_fine.variants.judging import Measured
from tfq_fine.variants.trial import Trial
from tfq_fine.variants.variant import Variant

PARTS = 16
WIDE = 4096.0  # bytes across a cut, that count as much as the cut being one part away from where it should be


@dataclass(frozen=True)
class Candidate:
    """A variant with parts in float, and what is known of its file."""

    variant: Variant
    time: float  # nanoseconds of one run
    measured: Measured


@dataclass(frozen=True)
class Aim:
    """The aim of the search.

    Args:
        good: whether a file is good enough.
        badness: how bad a file is; the badness of independent errors adds up.
        longest: nanoseconds that one run of it may take.
    """

    good: Callable[[Measured], bool]
    badness: Callable[[Measured], float]
    longest: float


def parts(main: Subgraph, ops: Sequence[int], count: int = PARTS) -> list[frozenset[int]]:
    """Cut `ops`, some of those of `main`, into at most `count` runs of about equal length, between which little passes.

    Args:
        main: the subgraph.
        ops: operators, in the order of the graph.
        count: at most so many parts.
    """
    if len(ops) <= count:
        return [frozenset({o}) for o in ops]
    crossing = _crossing(main)
    length = len(ops) / count
    cuts = [0]
    for k in range(1, count):
        middle, reach = k * length, length / 2
        first, last = max(int(np.ceil(middle - reach)), cuts[-1] + 1), min(int(middle + reach), len(ops) - 1)
        places = range(first, last + 1)
        if places:
            cuts.append(min(places, key=lambda n: abs(n - middle) / length + crossing[ops[n]] / WIDE))
    return [frozenset(ops[a:b]) for a, b in zip(cuts, [*cuts[1:], len(ops)], strict=True)]


def _crossing(main: Subgraph) -> Float64Array:
    """Return the bytes, of integers, that pass from before each operator to it and what is after it."""
    producers, consumers = main.producers(), main.consumers()
    crossing = np.zeros(len(main.ops) + 1)
    for t, o in producers.items():
        last = max((reader for reader, _ in consumers.get(t, [])), default=o)
        crossing[o + 1 : last + 1] += float(np.prod(main.tensors[t].shape, dtype=np.float64))
    return crossing


class Search:
    """Files with parts in float, each measured once.

    Args:
        trial: measures variants.
        start: the variant without parts in float.
        aim: the aim of the search.
        reason: why an operator is kept in float.
        how: how the parts hold their weights.
    """

    def __init__(self, trial: Trial, start: Variant, aim: Aim, reason: str, how: How):
        self._trial, self._aim, self._reason, self._how = trial, aim, reason, how
        self.start = self._candidate(start)
        self._tried: dict[frozenset[int], Candidate] = {}

    @property
    def tries(self) -> int:
        """How many files were run."""
        return len(self._tried)

    def quickest(self, pieces: Sequence[frozenset[int]], best: Candidate | None = None) -> Candidate | None:
        """Return the quickest file that is good enough within the time and quicker than `best`; else `best`."""
        whole = self.with_float(frozenset().union(*pieces))
        if whole.measured.problem or not self._aim.good(whole.measured):
            return best
        alone = [self.with_float(part) for part in pieces]
        before = self._aim.badness(self.start.measured)
        gains = [max(before - self._aim.badness(candidate.measured), 0.0) for candidate in alone]
        costs = [max(candidate.time - self.start.time, 1.0) for candidate in alone]
        first = range(len(pieces))
        for order in (sorted(first, key=lambda k: -gains[k] / costs[k]), [*first], [*reversed(first)]):
            best = self._fewest([pieces[k] for k in order], best) or best
        return best

    def _fewest(self, pieces: Sequence[frozenset[int]], best: Candidate | None) -> Candidate | None:
        """Return the file with the fewest first `pieces` in float that is good enough, and quicker than `best`."""
        unions = [frozenset[int]().union(*pieces[: n + 1]) for n in range(len(pieces))]
        best_candidate: Candidate | None = None
        low, high = 0, len(unions)  # the fewest that are enough are among these
        while low < high:
            middle = (low + high) // 2
            candidate = self.with_float(unions[middle])
            quick = candidate.time <= self._aim.longest and (best is None or candidate.time < best.time)
            if not candidate.measured.problem and self._aim.good(candidate.measured):
                high, best_candidate = middle, candidate if quick else best_candidate
            elif quick:
                low = middle + 1
            else:
                break  # with more of them it would be slower still
        return best_candidate

    def with_float(self, ops: frozenset[int]) -> Candidate:
        """Return the start with `ops` in float."""
        if ops not in self._tried:
            start = self.start.variant
            # the weights of precise operators have no error that a bias could take back
            corrected = start.corrected - {(0, o) for o in ops} if self._how == "precise" else start.corrected
            islands = {**dict.fromkeys(ops, self._reason), **start.islands}
            how = {**start.how, **dict.fromkeys(ops, self._how)}
            self._tried[ops] = self._candidate(replace(start, islands=islands, corrected=corrected, how=how))
        return self._tried[ops]

    def _candidate(self, variant: Variant) -> Candidate:
        measured = self._trial.measured(variant)
        if measured.problem:
            return Candidate(variant, float("inf"), measured)
        numbers = self._trial.numbers(variant)
        table = self._trial.settings.policy.target.table
        return Candidate(variant, running_time(numbers.quantized.graph, numbers.plan, table), measured)
