"""The accuracy that files of few bits shall reach, for `python -m benchmarks.algorithms`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """The least top-1 of a file: a figure of its own, or one that follows from that of the float model."""

    least: float | None = None  # in %
    within: float | None = None  # points below the float model

    def figure(self, float_top1: float) -> float:
        """Return the least top-1 in %, from that of the float model in %."""
        assert (self.least is None) != (self.within is None), "a bar is of one of the two kinds"
        return self.least if self.least is not None else float_top1 - (self.within or 0.0)


def _bars(least: Mapping[str, float], within: Mapping[str, float] | None = None) -> dict[str, Bar]:
    """Return the bars of cases."""
    bars = {case: Bar(least=figure) for case, figure in least.items()}
    return bars | {case: Bar(within=points) for case, points in (within or {}).items()}


RESNET8, MOBILENET, EFFICIENTNET = "resnet8", "small_mobilenet_v2", "efficientnet_lite0_cifar10"
BARS: Mapping[tuple[str, str], Mapping[str, Bar]] = {  # (file, quality) -> case -> bar
    ("full_w4a8", "balanced"): _bars({RESNET8: 81.8, EFFICIENTNET: 83.2}, {MOBILENET: 0.4}),
    ("full_w4a8", "best"): _bars({RESNET8: 82.0, EFFICIENTNET: 84.0}, {MOBILENET: 0.2}),
    ("full_w4a8, size", "balanced"): _bars({RESNET8: 81.0, EFFICIENTNET: 82.5}, {MOBILENET: 0.7}),
    ("dynamic_int4", "balanced"): _bars({EFFICIENTNET: 84.0}, {RESNET8: 0.2, MOBILENET: 0.2}),
    ("weight_only_int4", "balanced"): _bars({RESNET8: 81.6, EFFICIENTNET: 83.2}, {MOBILENET: 0.5}),
    ("weight_only_int4", "best"): _bars({RESNET8: 82.0, EFFICIENTNET: 84.0}, {MOBILENET: 0.2}),
    ("weight_only_int4_block32", "balanced"): _bars({RESNET8: 81.8, EFFICIENTNET: 83.7}, {MOBILENET: 0.3}),
    ("weight_only_int4_block32", "best"): _bars({RESNET8: 82.2, EFFICIENTNET: 84.3}, {MOBILENET: 0.2}),
    ("weight_only_int3_block32", "balanced"): _bars({RESNET8: 80.5, EFFICIENTNET: 80.0}),
    ("weight_only_int3_block32", "best"): _bars({RESNET8: 81.5, EFFICIENTNET: 82.5}),
    ("weight_only_int2_block32", "balanced"): _bars({RESNET8: 73.0, EFFICIENTNET: 60.0}),
    ("weight_only_int2_block32", "best"): _bars({RESNET8: 78.0, EFFICIENTNET: 70.0}),
    ("full_w2a8", "best"): _bars({RESNET8: 78.0}, {MOBILENET: 4.6}),
}


def bar_of(file: str, quality: str, case: str) -> Bar | None:
    """Return the bar of a file; None where there is none."""
    return BARS.get((file, quality), {}).get(case)
