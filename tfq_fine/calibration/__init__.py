"""Calibration: (float graph, representative data, what is needed) -> `Statistics`."""

from tfq_fine.calibration.gathering import Gathered, Reading, first_samples, gather, gather_shards
from tfq_fine.calibration.needs import algorithm_needs, mean_needs, range_needs
from tfq_fine.calibration.passes import OnInvalid, calibrate

__all__ = [
    "Gathered",
    "OnInvalid",
    "Reading",
    "algorithm_needs",
    "calibrate",
    "first_samples",
    "gather",
    "gather_shards",
    "mean_needs",
    "range_needs",
]
