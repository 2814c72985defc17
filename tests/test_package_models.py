"""The zoo of models as packages ship them, as far as it needs no download."""

import numpy as np
import pytest

from benchmarks.package_models import agreement, measured
from benchmarks.zoo import FILES, MEDIAPIPE
from benchmarks.zoo.basic_pitch import SAMPLES, clips
from benchmarks.zoo.file_case import FileCase
from benchmarks.zoo.mediapipe import MODELS
from graphs import images, small_cnn
from tfq_converters.flatbuffer.writing import write


def test_every_row_has_a_model() -> None:
    assert set(MEDIAPIPE) == set(MODELS)
    assert {"basic_pitch", "mtcnn_pnet", "mtcnn_rnet", "mtcnn_onet"} <= set(FILES)


def test_clips_are_sounds_of_their_own() -> None:
    first, second = clips(2, 0), clips(2, 1)
    assert first.shape == (2, SAMPLES, 1)
    assert np.abs(first).max() <= 1.0
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(first, clips(2, 0))


@pytest.mark.parametrize(
    ("expected", "found", "share"),
    [
        ([[0.1, 0.9], [0.8, 0.2]], [[0.2, 0.8], [0.4, 0.6]], 0.5),
        ([[0.4], [0.6], [0.9]], [[0.4], [0.4], [0.8]], 2 / 3),
        ([[-3.0], [2.0]], [[-0.1], [0.1]], 1.0),
    ],
)
def test_agreement(expected: list, found: list, share: float) -> None:
    assert agreement(np.array(expected), np.array(found)) == pytest.approx(share)


def test_a_file_is_measured_against_itself() -> None:
    case = FileCase("small_cnn", write(small_cnn()), images(12, 1), images(6, 2))
    ((db, share),) = measured(case, "full_int8")
    assert 15 < db < 80
    assert share > 0.5
