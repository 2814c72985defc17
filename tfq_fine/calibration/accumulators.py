"""Sums over the runs of one calibration pass."""

import numpy as np

from tfq_converters.graph import Float64Array, Graph
from tfq_converters.operators import data_of, lstm
from tfq_converters.quantized import OpKey
from tfq_fine.calibration.instrument import InstrumentedGraph, RunResult, StatisticsRequest, moved_from
from tfq_fine.calibration.observers.second_moment import second_moment
from tfq_fine.calibration.statistics import (
    INTERRUPTED,
    Extremes,
    MovingRange,
    Range,
    Statistics,
    merged_limits,
)
from tfq_fine.numerics import Counter, Histogram

WIDENED = 0.05  # share of the extent: less is no news
LAST = 0.1  # share of the samples
NOTHING = Range(0.0, 0.0)  # the range of a tensor without elements
MANY = 0.2  # share of the tensors
ENOUGH = 10  # samples, before anything is said of the last ones
NAMED = 5  # tensors in a warning


class Totals:
    """Sums over runs, in the order of the samples."""

    def __init__(self, graph: Graph, extended: InstrumentedGraph):
        self._graph, self._extended = graph, extended
        needs = extended.needs
        self.samples = self.skipped = 0
        self.interrupted = False
        self._low = np.full(len(needs.ranges), np.inf, np.float32)
        self._high = np.full(len(needs.ranges), -np.inf, np.float32)
        self._widened = np.zeros(len(needs.ranges), np.int64)  # samples before a range last grew
        self._means = [np.zeros(n) for n in extended.channels[0]]
        self._absmax = [np.zeros(n, np.float32) for n in extended.channels[1]]
        self._channels: list[Float64Array] = []
        where = {key: n for n, key in enumerate(needs.ranges)}
        self._counter = Counter(list(extended.sizes))
        self._extremes_at = np.array([where[key] for key in needs.extremes], np.int64)
        self._low_counter, self._high_counter = (Counter([1] * len(needs.extremes)) for _ in range(2))
        self._moving_at = np.array([where[key] for key, _ in needs.moving], np.int64)
        self._momentum = np.array([momentum for _, momentum in needs.moving])
        self._moving = np.zeros((3, len(needs.moving)))  # low, high, weight
        self._moments: dict[OpKey, Float64Array] = {}
        self._strains: dict[OpKey, Float64Array] = {}
        self._lstms = {key: lstm.float_constants_of(graph.main.ops[key[1]], graph.main) for key in needs.strains}

    def add(self, reading: RunResult, count: int) -> None:
        """Add one more run, of `count` samples."""
        self._add_ranges(reading)
        for total, mean in zip(self._means, reading.means, strict=True):
            total += mean * count
        for total_absmax, absmax in zip(self._absmax, reading.absmax, strict=True):
            np.maximum(total_absmax, absmax, out=total_absmax)
        self._channels = [
            merged_limits(total_absmax, self.samples, added, count)
            for total_absmax, added in zip(self._channels or reading.limits, reading.limits, strict=True)
        ]
        if len(reading.values):
            self._counter.add(reading.values)
        if len(self._extremes_at):
            self._low_counter.add(reading.low[self._extremes_at])
            self._high_counter.add(reading.high[self._extremes_at])
        for key in self._extended.needs.second_moments:
            op = self._graph.main.ops[key[1]]
            added = second_moment(reading.tensors[data_of(op)], op, self._graph.main)
            if key not in self._moments:
                self._moments[key] = np.zeros(added.shape)
            self._moments[key] += added if count == 1 else added * np.float32(count)
        for key, constants in self._lstms.items():
            op = self._graph.main.ops[key[1]]
            added = lstm.strain(constants, *(reading.tensors[t] for t in (data_of(op), op.outputs[0])))
            self._strains[key] = np.maximum(self._strains.get(key, 0.0), added)
        self.samples += count

    def _add_ranges(self, reading: RunResult) -> None:
        extent = np.maximum(self._high, 0) - np.minimum(self._low, 0)
        np.minimum(self._low, reading.low, out=self._low)
        np.maximum(self._high, reading.high, out=self._high)
        grown = np.maximum(self._high, 0) - np.minimum(self._low, 0) > extent * np.float32(1 + WIDENED)
        self._widened[grown] = self.samples
        if len(self._moving_at):
            now = np.stack([reading.low[self._moving_at], reading.high[self._moving_at], np.ones(len(self._momentum))])
            self._moving = self._moving * self._momentum + now * (1 - self._momentum)

    def skip(self, count: int) -> None:
        """Count a run that is left out."""
        self.skipped += count

    def statistics(self, needs: StatisticsRequest) -> Statistics:
        """Return the statistics of the requested tensors."""
        extended, moved, main = self._extended.needs, moved_from(self._graph), self._graph.main
        ranges = dict(zip(extended.ranges, map(Range, self._low.tolist(), self._high.tolist()), strict=True))
        requested = set(needs.ranges) | set(extended.extremes) | {key for key, _ in extended.moving}
        return Statistics(
            {(0, t): ranges.get((0, moved.get(t, t)), NOTHING) for _, t in sorted(requested)},
            self.samples,
            {key: mean / self.samples for key, mean in zip(extended.means, self._means, strict=True)},
            dict(zip(extended.histograms, self._counter.histograms(), strict=True)),
            dict(zip(extended.extremes, map(Extremes, *self._extremes()), strict=True)),
            {
                key: MovingRange(momentum, *numbers)
                for (key, momentum), numbers in zip(extended.moving, self._moving.T.tolist(), strict=True)
            },
            dict(zip(extended.absmax, self._absmax, strict=True)),
            dict(zip(extended.channels, self._channels, strict=True)),
            {key: total / self.samples for key, total in self._moments.items()},
            self._strains,
            {
                (0, t): main.tensors[t].name
                for _, t in sorted({*requested, *extended.means, *extended.absmax, *extended.channels})
            },
            self.skipped,
            tuple(self._warnings(ranges)),
        )

    def _extremes(self) -> tuple[list[Histogram], list[Histogram]]:
        return self._low_counter.histograms(), self._high_counter.histograms()

    def _warnings(self, ranges: dict[tuple[int, int], Range]) -> list[str]:
        """Return what a user should know of the data."""
        warnings = []
        if self.interrupted:
            warnings.append(f"{INTERRUPTED}: the statistics are those of the first {self.samples} samples")
        if self.skipped:
            warnings.append(f"{self.skipped} samples were skipped: the model computes NaN or infinity on them")
        constant = [
            self._graph.main.tensors[t].name for (_, t), warnings in ranges.items() if warnings.low == warnings.high
        ]
        if constant:
            more = f" and {len(constant) - NAMED} more" if len(constant) > NAMED else ""
            warnings.append(
                f"the samples leave {len(constant)} tensors constant ({', '.join(constant[:NAMED])}{more}): "
                "calibrate on more varied data, or they will not follow other inputs"
            )
        late = int((self._widened >= self.samples * (1 - LAST)).sum())
        if self.samples >= ENOUGH and late > MANY * len(ranges):
            warnings.append(
                f"the last {LAST:.0%} of the samples still widened {late} of {len(ranges)} ranges by more than "
                f"{WIDENED:.0%}: calibrate on more data"
            )
        return warnings
