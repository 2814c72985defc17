"""Basic Pitch (PyPI basic-pitch 0.4.0): notes of music, from 43,844 samples of audio; LOG and squares in front."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.zoo.file_case import FileCase, Kind
from examples.datasets.fetch import pip_wheel, unpacked

CALIBRATION, TEST = 24, 12  # clips
SAMPLES, RATE = 43844, 22050
KINDS: tuple[Kind, ...] = (0.5, 0.3, 0.5)  # onsets, notes, contours; the package's own limits of the first two
FOLDER = "basic_pitch/saved_models/icassp_2022"


def basic_pitch() -> FileCase:
    """Return the SavedModel; it needs tf_keras to load."""
    return _case("basic_pitch", f"{FOLDER}/nmp")


def basic_pitch_file() -> FileCase:
    """Return the float .tflite file of the package."""
    case = _case("basic_pitch_file", f"{FOLDER}/nmp.tflite")
    return FileCase(case.name, Path(case.model).read_bytes(), case.calibration, case.test, KINDS)


def _case(name: str, path: str) -> FileCase:
    place = unpacked(pip_wheel("basic-pitch", "0.4.0")) / path
    return FileCase(name, str(place), clips(CALIBRATION, 0), clips(TEST, 1), KINDS)


def clips(count: int, seed: int) -> NDArray[np.float32]:
    """Synthetic music (count, 43844, 1): one to four notes with overtones that decay, and a little noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(SAMPLES) / RATE
    sounds = np.zeros((count, SAMPLES))
    for clip in sounds:
        for _ in range(int(rng.integers(1, 5))):
            pitch, start = 440 * 2 ** (rng.integers(-24, 25) / 12), rng.uniform(0, 1.5)
            sounding = np.maximum(time - start, 0)
            envelope = (time > start) * np.exp(-sounding * rng.uniform(1, 5))
            for overtone in range(1, 6):
                clip += envelope * np.sin(2 * np.pi * pitch * overtone * sounding) / overtone**1.5
        clip *= rng.uniform(0.1, 0.9) / max(np.abs(clip).max(), 1e-6)
        clip += rng.normal(0, 10 ** rng.uniform(-4, -2.5), SAMPLES)
    return sounds[..., None].astype(np.float32)
