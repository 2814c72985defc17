"""Measurements of a float model and its quantized file that run side by side."""

import math
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
    drop_low: float | None = None  # the ends of the 95 % confidence interval of the drop; None: the metric has no
    drop_high: float | None = None  # values of single samples
    samples: int = 0  # that it was measured on; 0: not recorded


@dataclass(frozen=True)
class LayerError:
    """One activation (float against quantized) or one constant, in graph order."""

    name: str  # the name of the float tensor
    layer: str  # the Keras layer, "" when unknown
    code: str  # the operator that computes the activation, or that reads the constant
    dtype: str  # the type of the quantized tensor
    sqnr_db: float
    max_error: float
    own_db: float | None = None  # SQNR where its operator gets the float model's values; None: not measured
    weights_db: float | None = None  # the same with the operator in float, but for its weights; None: it has none

    @property
    def inherited(self) -> float | None:
        """The share of its noise power that comes from the layers before it, 0 to 1; None: not measured."""
        return None if self.own_db is None else 1 - _power_share(self.own_db, self.sqnr_db)

    @property
    def of_weights(self) -> float | None:
        """The share of its own noise power that the rounding of its weights makes, 0 to 1; None: not measured."""
        if self.own_db is None or self.weights_db is None:
            return None
        return _power_share(self.weights_db, self.own_db)

    @property
    def label(self) -> str:
        """Its layer, where known, and its own name."""
        return f"{self.layer}: {brief_name(self.name, 48)}" if self.layer else brief_name(self.name)


def _power_share(part_db: float, whole_db: float) -> float:
    """Return the noise power of a part as a share of the whole's, at most 1, from the SQNR of both in dB."""
    if math.isinf(part_db) and part_db > 0:
        return 0.0  # no noise at all
    ratio = 10 ** ((whole_db - part_db) / 10)
    return 1.0 if math.isnan(ratio) else min(1.0, ratio)


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
