"""The whole range: nothing is clipped (Jacob et al. 2018, arXiv 1712.05877, section 3)."""

from collections.abc import Mapping

from tfq_fine.calibration.observers.tensor_statistics import TensorStatistics
from tfq_fine.calibration.statistics import Range


def min_max(tensor: TensorStatistics, bits: int, options: Mapping[str, float]) -> Range:
    """Return the smallest and the largest value of all samples."""
    return tensor.range
