"""Clip a given share of the values in each tail (McKinstry et al. 2018, arXiv 1809.04191, section 3.2; Wu et al. 2020,
arXiv 2004.09602, section 3.3)."""

from collections.abc import Mapping

from tfq_fine.calibration.observers.tensor_statistics import TensorStatistics
from tfq_fine.calibration.statistics import Range


def percentile(seen: TensorStatistics, bits: int, options: Mapping[str, float]) -> Range:
    """Return the range between two percentiles.

    Options:
        percentile: p; the range is that between the percentiles 100 - p and p (99.99).
        lower: percentile of the lower end instead; 0 keeps the minimum.
        upper: percentile of the upper end instead; 100 keeps the maximum.
        fence: see `TensorStatistics.within` (10).
    """
    seen = seen.within(options["fence"])
    upper = options.get("upper", options["percentile"])
    lower = options.get("lower", 100.0 - options["percentile"])
    low = seen.counted.quantile(lower / 100) if lower > 0 else seen.range.low
    high = seen.counted.quantile(upper / 100) if upper < 100 else seen.range.high
    return seen.range.intersection(Range(low, high))
