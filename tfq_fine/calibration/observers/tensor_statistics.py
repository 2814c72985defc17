"""The statistics of one tensor that a range observer reads."""

from dataclasses import dataclass

import numpy as np

from tfq_fine.calibration.statistics import Extremes, MovingRange, Range
from tfq_fine.numerics import Histogram

FENCE = 10.0  # interquartile ranges: three are the outer fence of normal values, which heavy tails pass honestly


@dataclass(frozen=True)
class TensorStatistics:
    """One tensor over all samples; None where calibration did not ask for it."""

    range: Range
    histogram: Histogram | None = None
    extremes: Extremes | None = None  # the extremes of every sample; with the histogram
    moving: MovingRange | None = None

    def within(self, fence: float = FENCE) -> "TensorStatistics":
        """Return these statistics without the samples that are not like the others.

        A sample whose maximum lies more than `fence` interquartile ranges above the upper quartile of all samples'
        maxima, or its minimum as far below, is no data but an accident (fences: Tukey 1977, "Exploratory Data
        Analysis", section 2D). Values that only such samples reach are left out. 0 keeps all.
        """
        if self.extremes is None or not fence:
            return self
        kept = Range(-_fenced(self.extremes.low.negated(), fence), _fenced(self.extremes.high, fence))
        kept = self.range.intersection(kept)
        if kept == self.range:
            return self
        return TensorStatistics(kept, None if self.histogram is None else self.histogram.within(*kept), self.extremes)

    @property
    def counted(self) -> Histogram:
        """The histogram of a tensor whose observer reads one.

        Raises:
            TypeError: calibration did not count its values.
        """
        if self.histogram is None:
            raise TypeError("calibration kept no histogram of this tensor")
        return self.histogram

    @property
    def averaged(self) -> MovingRange:
        """The moving averages of a tensor whose observer reads them.

        Raises:
            TypeError: calibration did not average its ranges.
        """
        if self.moving is None:
            raise TypeError("calibration kept no moving averages of this tensor")
        return self.moving


def _fenced(maxima: Histogram, fence: float) -> float:
    """Return the largest maximum within the fence; infinite where that is the largest of all."""
    lower, upper = maxima.quantile(0.25), maxima.quantile(0.75)
    inside = maxima.values[maxima.values <= upper + fence * (upper - lower) + abs(upper) * 2**-8]  # for rounding
    return float("inf") if len(inside) == len(maxima.values) else float(np.max(inside))
