"""Ranges and means against the interpreter's own intermediates."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graphs import images, small_cnn
from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.runtime import Runner
from tfq_fine.calibration import calibrate
from tfq_fine.data import Batch
from tfq_fine.statistics import Range, Statistics

COMPUTED = (0, 3, 6, 8, 11, 12)  # tensors of small_cnn that are not constants


def batches(data: np.ndarray, size: int = 1) -> Iterator[Batch]:
    for start in range(0, len(data), size):
        yield Batch((data[start : start + size],), None, start)


def intermediates(data: np.ndarray) -> dict[int, np.ndarray]:
    graph = small_cnn()
    probe = replace(graph, subgraphs=(replace(graph.main, outputs=COMPUTED),), signatures=())
    runner = Runner(flatbuffer.write(probe), "optimized")
    runs = [runner.run([image[None]]) for image in data]
    return {t: np.concatenate([run[n] for run in runs]) for n, t in enumerate(COMPUTED)}


def test_ranges_and_means_are_those_of_the_intermediates() -> None:
    data = images(6)
    found = calibrate(small_cnn(), batches(data))
    assert found.samples == 6
    assert set(found.ranges) == {(0, t) for t in COMPUTED}
    for t, values in intermediates(data).items():
        # 1e-5: the fast and the plain float kernels sum in another order
        low = 0.0 if t == 3 else values.min()  # tensor 3 has a fused ReLU: 0 stands for its minimum
        np.testing.assert_allclose(found.ranges[0, t], (low, values.max()), rtol=1e-5, atol=1e-5)
        if (0, t) in found.means:
            np.testing.assert_allclose(found.means[0, t], values.mean(axis=tuple(range(values.ndim - 1))), atol=1e-5)
    assert set(found.means) == {(0, 0), (0, 3), (0, 8)}


def test_shards_merge_to_the_whole(tmp_path: Path) -> None:
    data, graph = images(7), small_cnn()
    whole = calibrate(graph, batches(data))
    merged = calibrate(graph, batches(data[:3])).merge(calibrate(graph, batches(data[3:])))
    assert merged.ranges == whole.ranges
    assert merged.samples == 7
    for key, mean in whole.means.items():
        np.testing.assert_allclose(merged.means[key], mean, rtol=1e-12)
    merged.save(tmp_path / "statistics.npz")
    again = Statistics.load(tmp_path / "statistics.npz")
    assert again.ranges == merged.ranges and again.samples == 7
    assert {key: mean.tolist() for key, mean in again.means.items()} == {
        key: mean.tolist() for key, mean in merged.means.items()
    }


def test_a_generator_is_read_once_and_not_held() -> None:
    alive: list[int] = []

    def data() -> Iterator[Batch]:
        for n, batch in enumerate(batches(images(4))):
            alive.append(n)
            yield batch

    assert calibrate(small_cnn(), data()).samples == 4
    assert alive == [0, 1, 2, 3]


def test_no_samples_is_an_error() -> None:
    with pytest.raises(TfqError, match="no samples"):
        calibrate(small_cnn(), iter(()))


def test_an_overflowing_layer_is_named() -> None:
    data = images(2)
    data[1] = 3e38
    with pytest.raises(TfqError, match=r"conv \(CONV_2D\) computes NaN or infinity in float, at sample 1"):
        calibrate(small_cnn(), batches(data))


def test_statistics_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, a=np.zeros(3))
    with pytest.raises(TfqError, match="does not hold saved statistics"):
        Statistics.load(path)


def test_ranges_unite() -> None:
    assert Range(-1.0, 2.0).union(Range(-3.0, 1.0)) == Range(-3.0, 2.0)
    assert Range(1.0, 2.0).extent == 2.0
    assert Range(-3.0, 2.0).absmax == 3.0
