"""How much worse a metric may get; `0.01` and `1%` are equal for a metric that is a share, such as top-1."""

import math
from dataclasses import dataclass

from tfq_converters.errors import TfqError

LARGEST = 0.5  # as a fraction, without a percent sign: who writes 1 means one point, not all of them
SHARES = ("top1", "top5", "accuracy", "auc")  # metrics by name that lie between 0 and 1


@dataclass(frozen=True)
class MaxDrop:
    """A limit in units of the metric or in percent: in points for a share, else relative to the float model's value."""

    value: float
    is_percent: bool = False

    @staticmethod
    def of(given: "float | str | MaxDrop") -> "MaxDrop":
        """Return the limit that a number or a text such as `1%` means.

        Raises:
            TfqError: it is no number, negative, or not finite.

        >>> MaxDrop.of("1%").limit(True, 0.9) == MaxDrop.of(0.01).limit(True, 0.9)
        True
        """
        if isinstance(given, MaxDrop):
            return given
        text = str(given).strip()
        percent = text.endswith("%")
        try:
            value = float(text.removesuffix("%"))
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise TfqError(f"max_drop: expected a number from 0, such as 0.01, or percent, such as 1%; found {given!r}")
        return MaxDrop(value, percent)

    def limit(self, is_share: bool, float_value: float) -> float:
        """Return the limit in units of the metric.

        Args:
            is_share: whether the metric lies between 0 and 1.
            float_value: what the float model gets.

        Raises:
            TfqError: a fraction of a share above one half, which a percent sign was forgotten of.
        """
        if self.is_percent:
            return self.value / 100 * (1.0 if is_share else abs(float_value))
        if is_share and self.value > LARGEST:
            raise TfqError(
                f"max_drop: {self.value:g} would allow a loss of {100 * self.value:g} percent points; write "
                f"{self.value:g}% for {self.value:g} of 100, or a fraction up to {LARGEST:g}"
            )
        return self.value
