"""The range that clips a given share of the values in each tail.

McKinstry et al. 2018, arXiv 1809.04191, section 3.2; Wu et al. 2020, arXiv 2004.09602, section 3.3.
"""

from collections.abc import Mapping

from tfq_fine.calibration.observers.tensor_statistics import TensorStatistics
from tfq_fine.calibration.statistics import Range


def percentile(tensor: TensorStatistics, bits: int, options: Mapping[str, float]) -> Range:
    """Return the range between two percentiles.

    Options:
        percentile: p; the range is that between the percentiles 100 - p and p (99.99).
        lower: percentile of the lower end instead; 0 keeps the minimum.
        upper: percentile of the upper end instead; 100 keeps the maximum.
        fence: see `TensorStatistics.within` (10).
    """
    tensor = tensor.within(options["fence"])
    upper = options.get("upper", options["percentile"])
    lower = options.get("lower", 100.0 - options["percentile"])
    low = tensor.counted.quantile(lower / 100) if lower > 0 else tensor.range.low
    high = tensor.counted.quantile(upper / 100) if upper < 100 else tensor.range.high
    return tensor.range.intersection(Range(low, high))
