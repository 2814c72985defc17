"""Observers: what is remembered of an activation over the representative data, and the range that it gets.

To add one for ranges, write its module (a function of `TensorStatistics`, the bits and its options to a `Range`) and
its row here.
`auto` takes, of others, the range with the least error in the outputs of the operators that read the tensor
(`search_ranges.py`); on statistics alone it is the whole range within the fence.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from types import MappingProxyType

from tfq_fine.calibration.observers.entropy import entropy
from tfq_fine.calibration.observers.mean_std import mean_std
from tfq_fine.calibration.observers.min_max import min_max
from tfq_fine.calibration.observers.moving_average import moving_average
from tfq_fine.calibration.observers.mse import mse
from tfq_fine.calibration.observers.percentile import percentile
from tfq_fine.calibration.observers.tensor_statistics import FENCE, TensorStatistics
from tfq_fine.calibration.observers.without_accidents import without_accidents
from tfq_fine.calibration.statistics import Range
from tfq_fine.request import ActivationSpec


@dataclass(frozen=True)
class Observer:
    """How a range is chosen, what it reads besides the whole range, and its options."""

    choose: Callable[[TensorStatistics, int, Mapping[str, float]], Range]
    reads: str = ""  # "", "histogram" (with the extremes), "extremes" or "moving"
    options: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))  # with their defaults
    optional: tuple[str, ...] = ()  # options without a default

    def problem(self, option: str, value: float) -> str:
        """Return what is wrong with the value of an option; "" when nothing is."""
        low, high = LIMITS[option]
        return "" if low <= value <= high else f"{option}={value:g}: expected {low:g} to {high:g}"


LIMITS = {  # limits of options, whatever the observer
    "momentum": (0.0, 1.0),
    "percentile": (50.0, 100.0),
    "lower": (0.0, 100.0),
    "upper": (0.0, 100.0),
    "deviations": (0.0, inf),
    "fence": (0.0, inf),
}
FENCED = {"fence": FENCE}

OBSERVERS: dict[str, Observer] = {
    "min_max": Observer(min_max),
    "moving_average": Observer(moving_average, "moving", {"momentum": 0.95}),
    "percentile": Observer(percentile, "histogram", {"percentile": 99.99, **FENCED}, ("lower", "upper")),
    "mean_std": Observer(mean_std, "histogram", {"deviations": 6.0, **FENCED}),
    "mse": Observer(mse, "histogram", FENCED),
    "entropy": Observer(entropy, "histogram", FENCED),
    "auto": Observer(without_accidents, "extremes", FENCED),
}


def observer_problems(spec: ActivationSpec) -> list[str]:
    """List what is wrong with the observer of a spec and its options."""
    if spec.observer not in OBSERVERS:
        return [f"unknown observer {spec.observer!r}; known: {', '.join(OBSERVERS)}"]
    observer = OBSERVERS[spec.observer]
    names = (*observer.options, *observer.optional)
    problems = [
        observer.problem(name, value) if name in names else f"no option {name!r}; it has {', '.join(names) or 'none'}"
        for name, value in spec.options
    ]
    return [f"observer {spec.observer!r} has {problem}" for problem in problems if problem]
