"""The budget of a search: a size, a drop of a metric, or a time."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tfq_converters.errors import raise_all
from tfq_fine.request import MaxDrop
from tfq_fine.verification import TaskMetric, task_metric

AS_SHARE = 1.0  # largest `max_bytes` that is a share of the float file


@dataclass(frozen=True)
class Budget:
    """One budget: exactly one of the first three is there."""

    max_bytes: float | str | None = None
    max_drop: MaxDrop | None = None
    max_latency: float | None = None
    metric: TaskMetric | None = None  # that `max_drop` is a drop of

    @staticmethod
    def of(
        max_bytes: float | str | None, max_drop: float | str | None, max_latency: float | None, metric: Any
    ) -> "Budget":
        """Return the budget that a caller gives.

        Raises:
            TfqError: there are none or several, or it is none.
        """
        raise_all(_problems(max_bytes, max_drop, max_latency, metric))
        if max_drop is None:
            return Budget(max_bytes, None, max_latency)
        return Budget(max_drop=MaxDrop.of(max_drop), metric=task_metric(metric))

    def bytes_of(self, whole: int) -> int:
        """Return the largest size, where the float file has `whole` bytes."""
        assert self.max_bytes is not None
        return size_of(self.max_bytes, whole)


def size_of(given: float | str, whole: int) -> int:
    """Return a size in bytes, of a number of them or a share of `whole`; 0 where it is neither.

    >>> size_of(0.25, 400), size_of("25%", 400), size_of("90", 400), size_of(1, 400), size_of("a lot", 400)
    (100, 100, 90, 400, 0)
    """
    text = str(given).strip()
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return 0
    is_share = text.endswith("%") or value <= AS_SHARE
    return int(value * whole if is_share else value) if 0 < value < math.inf else 0


def _problems(
    max_bytes: float | str | None, max_drop: float | str | None, max_latency: float | None, metric: Any
) -> Iterator[str]:
    """Yield what is wrong with the budget."""
    number = sum(budget is not None for budget in (max_bytes, max_drop, max_latency))
    if number != 1:
        budgets = "max_bytes=..., max_drop=... or max_latency=..."
        yield f"search needs one budget, {budgets}, and found {number or 'none'}"
    if max_latency is not None and not 0 < max_latency < math.inf:
        yield f"max_latency: expected a multiple of the float model's time, such as 0.5; found {max_latency!r}"
    if max_bytes is not None and not size_of(max_bytes, 2**40):
        yield f"max_bytes: expected a number of bytes, or a share such as 0.2 or '20%'; found {max_bytes!r}"
    if max_drop is not None and metric is None:
        yield "max_drop is a drop of a metric: pass metric='top1', or another that `verify` takes"
    if max_drop is None and metric is not None:
        yield "metric is read for max_drop alone"
