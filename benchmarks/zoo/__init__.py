"""Real models and data to measure on, by name: `CASES["resnet8"]()` fetches, builds and returns a `Case`.

Importing this package imports neither keras nor tensorflow; calling an entry does.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from benchmarks.zoo.case import Case
from benchmarks.zoo.file_case import FileCase

__all__ = ["CASES", "FILES", "Case", "FileCase"]


def _later(module: str, function: str) -> Callable[[], Case]:
    """Return `function` of this package's `module`, imported only when it is called."""

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
    "tones": _later("tones", "tones"),
    # trained once, in one to eight CPU minutes, and kept
    "raw_cnn": _later("raw_cnn", "raw_cnn"),
    "small_mobilenet_v2": _later("small_mobilenet_v2", "small_mobilenet_v2"),
    "dense_net": _later("dense_net", "dense_net"),
    "masked_transformer": _later("masked_transformer", "masked_transformer"),
    "language_model": _later("language_model", "language_model"),
    "language_model_outliers": _later("language_model", "language_model_outliers"),
    "language_model_rms": _later("language_model", "language_model_rms"),
    # random weights and inputs, for time and size only: `labels` is None
    "mobilenet_v2": _later("random_models", "mobilenet_v2"),
    "resnet50": _later("random_models", "resnet50"),
    "encoder": _later("random_models", "encoder"),
}


def _file(module: str, function: str, *arguments: str) -> Callable[[], FileCase]:
    def build() -> FileCase:
        case: FileCase = getattr(importlib.import_module(f"{__name__}.{module}"), function)(*arguments)
        return case

    return build


MEDIAPIPE = (  # float32 first; then float16 weights, some of them sparse
    *("hand_recrop", "iris_landmark"),
    *("face_detection_short_range", "face_detection_full_range_sparse", "face_landmark"),
    *("face_landmark_with_attention", "hand_landmark_lite", "hand_landmark_full"),
    *("palm_detection_lite", "palm_detection_full", "pose_detection", "pose_landmark_full"),
    *("selfie_segmentation", "selfie_segmentation_landscape"),
)
# as packages ship them, without labels: compared with their own float results
FILES: dict[str, Callable[[], FileCase]] = {
    **{name: _file("mediapipe", "mediapipe", name) for name in MEDIAPIPE},
    "basic_pitch": _file("basic_pitch", "basic_pitch"),
    "basic_pitch_file": _file("basic_pitch", "basic_pitch_file"),
    **{f"mtcnn_{name}": _file("mtcnn", "mtcnn", name) for name in ("pnet", "rnet", "onet")},
}
