"""The whole range of all samples but those that are unlike the others: what `auto` chooses from statistics alone."""

from collections.abc import Mapping

from tfq_fine.calibration.observers.tensor_statistics import TensorStatistics
from tfq_fine.calibration.statistics import Range


def without_accidents(tensor: TensorStatistics, bits: int, options: Mapping[str, float]) -> Range:
    """Return the smallest and the largest value of the samples within the fence.

    Options:
        fence: see `TensorStatistics.within` (10).
    """
    return tensor.within(options["fence"]).range
