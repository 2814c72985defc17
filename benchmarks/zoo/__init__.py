"""Real models and data to measure on, by name: `CASES["resnet8"]()` fetches, builds and returns a `Case`.

Importing this package imports neither keras nor tensorflow; calling an entry does.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from benchmarks.zoo.case import Case, Dataset

__all__ = ["CASES", "Case", "Dataset"]


def _later(module: str, function: str) -> Callable[[], Case]:
    """`function` of this package's `module`, imported only when it is called."""

    def build() -> Case:
        case: Case = getattr(importlib.import_module(f"{__name__}.{module}"), function)()
        return case

    return build


CASES: dict[str, Callable[[], Case]] = {
    # trained, with labelled test data
    "resnet8": _later("resnet8", "resnet8"),
    "efficientnet_lite0_photos": _later("efficientnet_lite0", "efficientnet_lite0_photos"),
    "efficientnet_lite0_cifar10": _later("efficientnet_lite0", "efficientnet_lite0_cifar10"),
    # trained when they are asked for, in seconds to a minute
    "digits": _later("trained_examples", "digits"),
    "fashion_mnist": _later("trained_examples", "fashion_mnist"),
    "text_transformer": _later("trained_examples", "text_transformer"),
    # trained once, in one to four CPU minutes, and kept
    "raw_cnn": _later("raw_cnn", "raw_cnn"),
    "small_mobilenet_v2": _later("small_mobilenet_v2", "small_mobilenet_v2"),
    "masked_transformer": _later("masked_transformer", "masked_transformer"),
    # random weights and inputs, for time and size only: `labels` is None
    "mobilenet_v2": _later("random_models", "mobilenet_v2"),
    "resnet50": _later("random_models", "resnet50"),
    "encoder": _later("random_models", "encoder"),
}
