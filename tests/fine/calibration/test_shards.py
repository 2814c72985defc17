"""Calibration beyond one process: the same statistics from threads, processes and Dask, workers lost or not."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import tfq_fine as tfq
from support.executors import dask_cluster, processes
from support.graphs import images, small_cnn
from tfq_converters import flatbuffer

OBSERVER = "mse"
DATA = images(11)
SHARDS = [DATA[:3], DATA[3:4], DATA[4:9], DATA[9:]]


def shard(index: int) -> np.ndarray:
    """A shard that is made where it is read."""
    return images(11)[[slice(0, 3), slice(3, 4), slice(4, 9), slice(9, None)][index]]


class ShardOrDeath:
    """The shards; the first process that reads the third one dies."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __call__(self, index: int) -> np.ndarray:
        if index == 2 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return shard(index)


@pytest.fixture(scope="module")
def content() -> bytes:
    return flatbuffer.write(small_cnn())


@pytest.fixture(scope="module")
def whole(content: bytes) -> tfq.Statistics:
    return tfq.calibrate(content, DATA, observer=OBSERVER, also=["channel_absmax"], threads=1)


def same(found: tfq.Statistics, expected: tfq.Statistics) -> None:
    """Bit for bit; means are sums in another order."""
    assert found.samples == expected.samples == 11
    for field in ("ranges", "histograms", "extremes", "names"):
        assert getattr(found, field) == getattr(expected, field), field
    for key, absmax in expected.absmax.items():
        np.testing.assert_array_equal(found.absmax[key], absmax)
    for key, mean in expected.means.items():
        np.testing.assert_allclose(found.means[key], mean, rtol=1e-12)  # float64 sums in another order


def test_shards_on_threads(content: bytes, whole: tfq.Statistics) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = tfq.calibrate(content, SHARDS, observer=OBSERVER, also=["channel_absmax"], executor=pool)
    same(found, whole)


def test_shards_on_processes_read_where_they_run(content: bytes, whole: tfq.Statistics) -> None:
    with processes() as pool:
        found = tfq.calibrate(content, shard, observer=OBSERVER, also=["channel_absmax"], executor=pool, shards=4)
        same(found, whole)
        result = tfq.quantize(content, "full_int8", SHARDS, observer=OBSERVER, executor=pool)
    alone = tfq.quantize(content, "full_int8", DATA, observer=OBSERVER)
    # the means differ in the last bit, which changes no code here
    assert result.content == alone.content


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_dask_cluster_that_loses_a_worker(content: bytes, whole: tfq.Statistics, tmp_path: Path) -> None:
    with dask_cluster() as pool:
        same(tfq.calibrate(content, SHARDS, observer=OBSERVER, also=["channel_absmax"], executor=pool), whole)
        lossy = ShardOrDeath(tmp_path / "died")
        found = tfq.calibrate(content, lossy, observer=OBSERVER, also=["channel_absmax"], executor=pool, shards=4)
    assert lossy.mark.exists()  # a worker was killed
    same(found, whole)


def test_what_is_wrong_with_a_shard_names_it(content: bytes) -> None:
    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(tfq.TfqError, match="shard 1: input "):
            tfq.calibrate(content, [DATA[:2], DATA[:2, :4]], executor=pool)
        with pytest.raises(tfq.TfqError, match=r"a list of shards, or a function .* found function and shards=None"):
            tfq.calibrate(content, shard, executor=pool)
        with pytest.raises(tfq.TfqError, match="list of at least one shard; found ndarray"):
            tfq.calibrate(content, DATA, executor=pool)
    with pytest.raises(tfq.TfqError, match="shards=2 needs an executor"):
        tfq.calibrate(content, DATA, shards=2)


def test_lost_processes_are_an_error_where_nobody_runs_their_work_again(content: bytes, tmp_path: Path) -> None:
    with processes() as pool, pytest.raises(tfq.TfqError, match=r"shard [0-3]: the executor lost it"):
        tfq.calibrate(content, ShardOrDeath(tmp_path / "died"), executor=pool, shards=4)


def test_resuming_is_one_pass(content: bytes, whole: tfq.Statistics, tmp_path: Path) -> None:
    options = {"observer": OBSERVER, "also": ["channel_absmax"], "threads": 1}
    tfq.calibrate(content, DATA[:4], **options).save(tmp_path / "first.npz")
    same(tfq.calibrate(content, DATA[4:], resume=tfq.Statistics.load(tmp_path / "first.npz"), **options), whole)
