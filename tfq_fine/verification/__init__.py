"""Verification of a quantized file: it and the float model run side by side on the same samples."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_fine.verification.layer_errors import LAYER_SAMPLES, activation_errors
    from tfq_fine.verification.side import Side, file_size
    from tfq_fine.verification.side_by_side import verify
    from tfq_fine.verification.task_metrics import TaskMetric, metric_value, task_metric
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "layer_errors": "LAYER_SAMPLES activation_errors",
            "side": "Side file_size",
            "side_by_side": "verify",
            "task_metrics": "TaskMetric metric_value task_metric",
        },
    )

__all__ = [
    "LAYER_SAMPLES",
    "Side",
    "TaskMetric",
    "activation_errors",
    "file_size",
    "metric_value",
    "task_metric",
    "verify",
]
