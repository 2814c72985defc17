"""Measurements of a float model and its quantized file that run side by side."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tfq_fine.report.sections import brief_name


@dataclass(frozen=True)
class OutputError:
    """One output of the two models, over all samples."""

    name: str
    sqnr_db: float  # 10 log10(sum x² / sum (x - y)²); inf: equal
    max_error: float  # max |x - y|
    cosine: float
    top1_agreement: float | None  # share of samples of the same highest class; None: not scores of classes
    top5_agreement: float | None  # highest float class among the five highest; None: fewer than 6 classes
    tied: int | None = None  # samples whose highest score several classes share, in float or in the file


@dataclass(frozen=True)
class TaskResult:
    """The metric against labels."""

    name: str
    float_value: float
    quantized_value: float
    drop: float  # how much worse the quantized file is, in units of the metric; negative: better
    higher_is_better: bool = True


@dataclass(frozen=True)
class LayerError:
    """One activation (float against quantized) or one constant, in graph order."""

    name: str  # the name of the float tensor
    layer: str  # the Keras layer, "" when unknown
    code: str  # the operator that computes the activation, or that reads the constant
    dtype: str  # the type of the quantized tensor
    sqnr_db: float
    max_error: float

    @property
    def label(self) -> str:
        """Its layer, where known, and its own name."""
        return f"{self.layer}: {brief_name(self.name, 48)}" if self.layer else brief_name(self.name)


@dataclass(frozen=True)
class FileSize:
    """The bytes of a file by content."""

    file_bytes: int
    by_type: Mapping[str, int] = field(default_factory=dict)  # bytes of its constants, each stored one counted once


@dataclass(frozen=True)
class Latency:
    """Medians of interleaved runs."""

    float_ms: float
    quantized_ms: float
    ratio: float  # quantized / float
    repeats: int
    batch_size: int
    threads: int
