"""How often each value was seen, the values rounded to bfloat16: one fixed set of bins for tensors of every range.

The bins are 128 per power of two, so that the width of a bin is at most 0.8 % of its values, near zero and in the tails
alike; nothing has to be known of the range beforehand, the histogram grows by the values that appear. Equal samples
give equal histograms in whatever order and partition they come: counts are integers, and the bins never change.
"""

from dataclasses import dataclass, field
from functools import cached_property

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from tfq_converters.graph import Float32Array, FloatArray, Int64Array

HELD = 2**21  # values that wait to be counted
FEW = 2**12  # values that are counted faster by sorting them
_LARGEST = np.float32(ml_dtypes.finfo(ml_dtypes.bfloat16).max)  # type: ignore[no-untyped-call]


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of values."""

    values: Float32Array  # float32 [n], ascending, of 8 significant bits
    counts: Int64Array  # int64 [n], all positive

    @staticmethod
    def of(values: FloatArray) -> "Histogram":
        """Return the histogram of an array of any shape.

        >>> found = Histogram.of(np.array([1.0, 1.001, -2.0], np.float32))
        >>> found.values.tolist(), found.counts.tolist()
        ([-2.0, 1.0], [1, 2])
        """
        flat = np.ascontiguousarray(values, np.float32).reshape(-1)
        return _counted(rounded(flat))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return np.array_equal(self.values, other.values) and np.array_equal(self.counts, other.counts)

    __hash__ = None  # type: ignore[assignment]

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    def merge(self, other: "Histogram") -> "Histogram":
        """Return the histogram of both sets of values."""
        values, where = np.unique(np.concatenate([self.values, other.values]), return_inverse=True)
        counts = np.zeros(len(values), np.int64)
        np.add.at(counts, where, np.concatenate([self.counts, other.counts]))
        return Histogram(values, counts)

    def within(self, low: float, high: float) -> "Histogram":
        """Return the histogram of the values in [low, high]."""
        inside = (self.values >= low) & (self.values <= high)
        return Histogram(self.values[inside], self.counts[inside])

    def negated(self) -> "Histogram":
        """Return the histogram of the same values times -1."""
        return Histogram(-self.values[::-1] + np.float32(0), self.counts[::-1])

    def quantile(self, share: float) -> float:
        """Return the smallest value that at least `share` of all values do not exceed (NumPy's "inverted_cdf")."""
        reached = self._reached
        target = share * float(reached[-1])
        return float(self.values[min(int(np.searchsorted(reached, target)), len(reached) - 1)])

    @cached_property
    def _reached(self) -> Int64Array:
        """How many values do not exceed each bin's."""
        return np.cumsum(self.counts)

    def moments(self) -> tuple[float, float]:
        """Return (mean, standard deviation) of the counted values."""
        values = self.values.astype(np.float64)
        mean = float(np.average(values, weights=self.counts))
        return mean, float(np.sqrt(np.average((values - mean) ** 2, weights=self.counts)))


def rounded(values: Float32Array) -> NDArray[np.uint16]:
    """Round float32 values of any shape to bfloat16, and return the patterns of its bits, uint16."""
    return values.astype(ml_dtypes.bfloat16).view(np.uint16)


def _counted(given: NDArray[np.uint16]) -> Histogram:
    """Return the histogram of values by their patterns of bits, uint16."""
    if given.size < FEW:
        patterns, pattern_counts = np.unique(given, return_counts=True)
    else:
        dense = np.bincount(given.reshape(-1), minlength=2**16)
        patterns = np.flatnonzero(dense).astype(np.uint16)
        pattern_counts = dense[patterns]
    values = patterns.view(ml_dtypes.bfloat16).astype(np.float32)
    values = np.clip(values, -_LARGEST, _LARGEST)  # what rounds to infinity
    values, where = np.unique(values + np.float32(0), return_inverse=True)  # ascending; -0 is 0
    counts = np.zeros(len(values), np.int64)
    np.add.at(counts, where, pattern_counts)
    return Histogram(values, counts)


@dataclass
class Counter:
    """Counts the values of many tensors at once; memory grows with the bins that appear, not with the values."""

    sizes: list[int]  # values of each tensor per call of `add`
    _waiting: list[NDArray[np.uint16]] = field(default_factory=list)
    _found: list[Histogram | None] = field(init=False)

    def __post_init__(self) -> None:
        self._found = [None] * len(self.sizes)

    def add(self, values: Float32Array) -> None:
        """Count one more set of values, float32: those of every tensor, one tensor after the other."""
        self._waiting.append(rounded(values))
        if len(self._waiting) * sum(self.sizes) > HELD:
            self._count()

    def histograms(self) -> list[Histogram]:
        """Return the histogram of every tensor."""
        self._count()
        empty = Histogram(np.zeros(0, np.float32), np.zeros(0, np.int64))
        return [empty if histogram is None else histogram for histogram in self._found]

    def _count(self) -> None:
        if not self._waiting:
            return
        columns = np.split(np.stack(self._waiting), np.cumsum(self.sizes)[:-1], axis=1)
        self._waiting.clear()
        for n, patterns in enumerate(columns):
            histogram = _counted(patterns)
            counts = self._found[n]
            self._found[n] = histogram if counts is None else counts.merge(histogram)
