"""The models of PyPI mediapipe 0.10.21: landmarks, detection and segmentation on crops of photos."""

from __future__ import annotations

import numpy as np

from benchmarks.zoo.file_case import VALUES, FileCase, Kind
from benchmarks.zoo.photos import crops
from examples.datasets.fetch import pip_wheel, zip_members

CALIBRATION, TEST = 48, 24  # crops
SIGNED = frozenset({"face_detection_short_range", "face_detection_full_range_sparse", "pose_detection"})  # -1 .. 1
MODELS = {  # name -> (file, height, width)
    "hand_recrop": ("holistic_landmark/hand_recrop", 256, 256),
    "iris_landmark": ("iris_landmark/iris_landmark", 64, 64),
    # the weights of these are float16, and those of the sparse ones sparse too
    "face_detection_short_range": ("face_detection/face_detection_short_range", 128, 128),
    "face_detection_full_range_sparse": ("face_detection/face_detection_full_range_sparse", 192, 192),
    "face_landmark": ("face_landmark/face_landmark", 192, 192),
    "face_landmark_with_attention": ("face_landmark/face_landmark_with_attention", 192, 192),
    "hand_landmark_lite": ("hand_landmark/hand_landmark_lite", 224, 224),
    "hand_landmark_full": ("hand_landmark/hand_landmark_full", 224, 224),
    "palm_detection_lite": ("palm_detection/palm_detection_lite", 192, 192),
    "palm_detection_full": ("palm_detection/palm_detection_full", 192, 192),
    "pose_detection": ("pose_detection/pose_detection", 224, 224),
    "pose_landmark_full": ("pose_landmark/pose_landmark_full", 256, 256),
    "selfie_segmentation": ("selfie_segmentation/selfie_segmentation", 256, 256),
    "selfie_segmentation_landscape": ("selfie_segmentation/selfie_segmentation_landscape", 144, 256),
}
DETECTION: tuple[Kind, ...] = (VALUES, 0.0)  # boxes and points; scores, whose probability is their logistic
HAND: tuple[Kind, ...] = (VALUES, 0.5, 0.5, VALUES)  # points, hand or not, left or right, points in metres
KINDS: dict[str, tuple[Kind, ...]] = {
    "hand_recrop": (VALUES,),
    "iris_landmark": (VALUES, VALUES),
    "face_detection_short_range": DETECTION,
    "face_detection_full_range_sparse": DETECTION,
    "face_landmark": (VALUES, 0.0),
    "face_landmark_with_attention": (*(VALUES,) * 6, 0.0),
    "hand_landmark_lite": HAND,
    "hand_landmark_full": HAND,
    "palm_detection_lite": DETECTION,
    "palm_detection_full": DETECTION,
    "pose_detection": DETECTION,
    "pose_landmark_full": (VALUES, 0.5, 0.0, VALUES, VALUES),  # points, pose or not, mask, heat map, points in metres
    "selfie_segmentation": (0.5,),
    "selfie_segmentation_landscape": (0.5,),
}


def mediapipe(name: str) -> FileCase:
    """Return one model of `MODELS` with pixels in 0 .. 1, or -1 .. 1 for those of `SIGNED`."""
    path, height, width = MODELS[name]
    (content,) = zip_members(pip_wheel("mediapipe", "0.10.21"), f"mediapipe/modules/{path}.tflite").values()

    def inputs(count: int, test: bool) -> np.ndarray:
        pixels = crops(height, width, count, test).astype(np.float32) / np.float32(255)
        return pixels * np.float32(2) - np.float32(1) if name in SIGNED else pixels

    return FileCase(name, content, inputs(CALIBRATION, False), inputs(TEST, True), KINDS[name])
