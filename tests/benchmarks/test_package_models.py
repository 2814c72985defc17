"""The zoo of models as packages ship them, as far as it needs no download."""

import numpy as np
import pytest

from benchmarks.package_models import measured, points
from benchmarks.zoo import FILES, MEDIAPIPE
from benchmarks.zoo.basic_pitch import SAMPLES, clips
from benchmarks.zoo.file_case import LARGEST, VALUES, FileCase, Kind
from benchmarks.zoo.mediapipe import KINDS, MODELS
from support.graphs import images, small_cnn
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
    ("expected", "found", "kind", "off"),
    [
        ([[0.1, 0.9], [0.8, 0.2]], [[0.2, 0.8], [0.4, 0.6]], LARGEST, 50.0),
        ([[0.4], [0.6], [0.9]], [[0.4], [0.4], [0.8]], 0.5, 100 / 3),
        ([[-3.0], [2.0]], [[-0.1], [0.1]], 0.0, 0.0),
        ([[-3.0], [2.0]], [[-2.9], [1.8]], VALUES, 3.0),  # a mean of 0.15 in a range of 5
    ],
)
def test_points(expected: list, found: list, kind: Kind, off: float) -> None:
    assert points(np.array(expected), np.array(found), kind) == pytest.approx(off)


def test_every_output_of_a_model_of_the_zoo_is_declared() -> None:
    assert set(KINDS) == set(MODELS)
    assert all(kind in (VALUES, LARGEST, 0.0, 0.5) for kinds in KINDS.values() for kind in kinds)


def test_a_file_is_measured_against_itself() -> None:
    case = FileCase("small_cnn", write(small_cnn()), images(12, 1), images(6, 2), (VALUES,))
    row = measured(case, "full_int8")
    (output,) = row.outputs
    assert 15 < output.db < 80
    assert 0 < output.points < 5
    assert row.bytes > 0 and "(1 of" not in str(row)
