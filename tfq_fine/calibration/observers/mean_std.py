"""The range of a number of standard deviations around the mean.

Lin, Talathi, Annapureddy 2016, arXiv 1511.06393, section 3: the step as a multiple of the standard deviation.
"""

from collections.abc import Mapping

from tfq_fine.calibration.observers.tensor_statistics import TensorStatistics
from tfq_fine.calibration.statistics import Range


def mean_std(tensor: TensorStatistics, bits: int, options: Mapping[str, float]) -> Range:
    """Return mean ± deviations * standard deviation, cut to the range of the values.

    Options:
        deviations: how many standard deviations (6).
        fence: see `TensorStatistics.within` (10).
    """
    tensor = tensor.within(options["fence"])
    mean, deviation = tensor.counted.moments()
    reach = options["deviations"] * deviation
    return tensor.range.intersection(Range(mean - reach, mean + reach))
