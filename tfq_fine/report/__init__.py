"""Reports: frozen values with fields for programs, a table for people, JSON both ways, and a page with pictures."""

from tfq_fine.report.measurements import FileSize, Latency, LayerError, OutputError, TaskResult
from tfq_fine.report.quantization import OpRow, QuantizationReport
from tfq_fine.report.verification import Report

__all__ = [
    "FileSize",
    "Latency",
    "LayerError",
    "OpRow",
    "OutputError",
    "QuantizationReport",
    "Report",
    "TaskResult",
]
