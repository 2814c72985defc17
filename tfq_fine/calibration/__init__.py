"""Calibration: (float graph, representative data, what is needed) -> `Statistics`."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_fine.calibration.dataset import CalibrationData, Representative
    from tfq_fine.calibration.instrument import StatisticsRequest, moved_from
    from tfq_fine.calibration.kept_samples import Sample
    from tfq_fine.calibration.layerwise import Cut, Layerwise
    from tfq_fine.calibration.loops import loop_moments, loop_operators
    from tfq_fine.calibration.needs import algorithm_needs, mean_needs, needs_of, range_needs
    from tfq_fine.calibration.observers import OBSERVERS, observer_problems
    from tfq_fine.calibration.observers.tensor_statistics import TensorStatistics
    from tfq_fine.calibration.run import OnInvalid, calibrate, calibrate_each
    from tfq_fine.calibration.sampling import generated_inputs, other_inputs
    from tfq_fine.calibration.shards import (
        CalibrationResult,
        ReadingOptions,
        gather,
        gather_shards,
        result_of,
        shard_shapes,
    )
    from tfq_fine.calibration.signature_data import by_signature, each, entries, located, matched, of_each
    from tfq_fine.calibration.spool import Spool
    from tfq_fine.calibration.statistics import Extremes, Range, Statistics
    from tfq_fine.calibration.trained_moments import unlike_training
    from tfq_fine.calibration.unlikely_data import data_warnings
    from tfq_fine.calibration.value_sampling import drawn
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "dataset": "CalibrationData Representative",
            "instrument": "StatisticsRequest moved_from",
            "kept_samples": "Sample",
            "layerwise": "Cut Layerwise",
            "loops": "loop_moments loop_operators",
            "needs": "algorithm_needs mean_needs needs_of range_needs",
            "observers": "OBSERVERS observer_problems",
            "observers.tensor_statistics": "TensorStatistics",
            "run": "OnInvalid calibrate calibrate_each",
            "sampling": "generated_inputs other_inputs",
            "shards": "CalibrationResult ReadingOptions gather gather_shards shard_shapes result_of",
            "signature_data": "by_signature each entries located matched of_each",
            "spool": "Spool",
            "statistics": "Extremes Range Statistics",
            "trained_moments": "unlike_training",
            "unlikely_data": "data_warnings",
            "value_sampling": "drawn",
        },
    )

__all__ = [
    "OBSERVERS",
    "CalibrationData",
    "CalibrationResult",
    "Cut",
    "Extremes",
    "Layerwise",
    "OnInvalid",
    "Range",
    "ReadingOptions",
    "Representative",
    "Sample",
    "Spool",
    "Statistics",
    "StatisticsRequest",
    "TensorStatistics",
    "algorithm_needs",
    "by_signature",
    "calibrate",
    "calibrate_each",
    "data_warnings",
    "drawn",
    "each",
    "entries",
    "gather",
    "gather_shards",
    "generated_inputs",
    "located",
    "loop_moments",
    "loop_operators",
    "matched",
    "mean_needs",
    "moved_from",
    "needs_of",
    "observer_problems",
    "of_each",
    "other_inputs",
    "range_needs",
    "result_of",
    "shard_shapes",
    "unlike_training",
]
