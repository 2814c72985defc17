"""What a range observer may know of one tensor."""

from dataclasses import dataclass

from tfq_fine.histogram import Histogram
from tfq_fine.statistics import MovingRange, Range


@dataclass(frozen=True)
class Seen:
    """One tensor over all samples; None where calibration did not ask for it."""

    range: Range
    histogram: Histogram | None = None
    moving: MovingRange | None = None

    @property
    def counted(self) -> Histogram:
        """The histogram of a tensor whose observer reads one."""
        assert self.histogram is not None
        return self.histogram
