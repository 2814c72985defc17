"""Running comparison of two models, batch by batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tfq_converters.errors import TfqError
from tfq_converters.graph import AnyArray
from tfq_fine.numerics import Agreement, ErrorSums, is_classes, paired_interval
from tfq_fine.report import OutputError, TaskResult
from tfq_fine.request import SHARES
from tfq_fine.verification.borders import same_shapes
from tfq_fine.verification.task_metrics import Score, TaskMetric


@dataclass(frozen=True)
class OutputSums:
    """One output of both models; adds up over batches."""

    errors: ErrorSums
    agreement: Agreement | None  # None: not scores of classes
    classes: int = 0

    @staticmethod
    def of(x: AnyArray, y: AnyArray) -> "OutputSums":
        """Return the sums of one batch: outputs [n, ...] of the float file, and of the quantized one, of one shape."""
        agreement = Agreement.of(x, y) if is_classes(x) else None
        return OutputSums(ErrorSums.of(x, y), agreement, x.shape[-1] if agreement else 0)

    def __add__(self, other: "OutputSums") -> "OutputSums":
        agreement = self.agreement + other.agreement if self.agreement and other.agreement else None
        return OutputSums(self.errors + other.errors, agreement, min(self.classes, other.classes))

    def result(self, name: str) -> OutputError:
        """Return the sums as measures."""
        errors, agreement = self.errors, self.agreement
        return OutputError(
            name=name,
            sqnr_db=errors.sqnr_db,
            max_error=errors.max_error,
            cosine=errors.cosine,
            top1_agreement=agreement.top1 / agreement.count if agreement else None,
            top5_agreement=agreement.top5 / agreement.count if agreement and self.classes > 5 else None,
            tied=agreement.tied if agreement else None,
        )


class Comparison:
    """Adds up outputs of both models, batch by batch.

    Args:
        names: the outputs, in order.
        metric: what to measure against labels; None for nothing.
    """

    def __init__(self, names: Sequence[str], metric: TaskMetric | None):
        self._names, self._metric = tuple(names), metric
        self._sums: list[OutputSums] = []
        self._scores = (Score(metric), Score(metric)) if metric else None
        self._count = 0

    def add(self, ours: Sequence[AnyArray], theirs: Sequence[AnyArray], labels: AnyArray | None) -> None:
        """Take one batch in: outputs [n, ...] of the float model, of the quantized file, and labels [n, ...].

        Raises:
            TfqError: outputs of different shapes; no labels for the metric, or labels that do not fit it.
        """
        same_shapes(self._names, ours, theirs)
        sums = [OutputSums.of(x, y) for x, y in zip(ours, theirs, strict=True)]
        self._sums = [a + b for a, b in zip(self._sums, sums, strict=True)] if self._sums else sums
        if self._scores is None or self._metric is None:
            return
        if labels is None:
            raise TfqError(
                f"metric {self._metric.name!r} needs labels: pass labels=..., or data that holds them "
                "(under 'labels' or 'y' in a .npz file)"
            )
        self._count += len(labels)
        for score, outputs in zip(self._scores, (ours, theirs), strict=True):
            score.add(dict(zip(self._names, outputs, strict=True)), labels)

    def outputs(self) -> tuple[OutputError, ...]:
        """Return the measures of every output."""
        return tuple(sums.result(name) for name, sums in zip(self._names, self._sums, strict=True))

    def task(self) -> TaskResult | None:
        """Return the metric of both models; None without a metric."""
        if self._scores is None or self._metric is None:
            return None
        before, after = (score.result() for score in self._scores)
        drop = self._metric.drop(before, after)
        result = TaskResult(self._metric.name, before, after, drop, self._metric.higher_is_better, samples=self._count)
        ours, theirs = (score.each() for score in self._scores)
        if ours is None or theirs is None:
            return result
        differences = ours - theirs if self._metric.higher_is_better else theirs - ours
        low, high = paired_interval(differences, 1.0 if self._metric.name in SHARES else 0.0)
        return replace(result, drop_low=low, drop_high=high)
