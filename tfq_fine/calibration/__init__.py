"""Calibration: (float graph, representative data, what is needed) -> `Statistics`."""

from tfq_fine.calibration.gathering import Gathered, Reading, gather, gather_shards, shard_shapes
from tfq_fine.calibration.layerwise import Layerwise
from tfq_fine.calibration.needs import algorithm_needs, mean_needs, needs_of, range_needs
from tfq_fine.calibration.passes import OnInvalid, calibrate
from tfq_fine.calibration.spool import Spool

__all__ = [
    "Gathered",
    "Layerwise",
    "OnInvalid",
    "Reading",
    "Spool",
    "algorithm_needs",
    "calibrate",
    "gather",
    "gather_shards",
    "mean_needs",
    "needs_of",
    "range_needs",
    "shard_shapes",
]
