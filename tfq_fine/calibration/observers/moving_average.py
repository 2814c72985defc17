"""The exponential moving average of the range of each run (Jacob et al. 2018, arXiv 1712.05877, section 3.1)."""

from collections.abc import Mapping

from tfq_fine.calibration.observers.tensor_statistics import TensorStatistics
from tfq_fine.calibration.statistics import Range


def moving_average(tensor: TensorStatistics, bits: int, options: Mapping[str, float]) -> Range:
    """Return moving averages of the minima and of the maxima; later runs weigh more.

    Options:
        momentum: what a run keeps of its weight when the next one comes (0.95).
    """
    return tensor.averaged.range
