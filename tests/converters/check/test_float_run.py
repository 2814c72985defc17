"""The values of the float model: computed once in segments, the first sample's put aside; and pages given back."""

import os
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from support.graphs import images, small_cnn
from support.nets import Net
from tfq_converters import flatbuffer
from tfq_converters.check import simulate
from tfq_converters.check.float_model import float_run
from tfq_converters.check.simulate import float_values
from tfq_converters.runtime.child_runs import waiting
from tfq_converters.runtime.runner import Runner
from tfq_fine.calibration.value_sampling import SAMPLE, drawn, positions


def every_value(graph, sample):  # type: ignore[no-untyped-def]
    """Tensor -> value, from one interpreter on the plain kernels that keeps all tensors."""
    runner = Runner(flatbuffer.write(graph), "optimized", keep_tensors=True)
    runner.run(sample)
    return {t: runner.tensor(t) for op in graph.main.ops for t in op.outputs}


@pytest.mark.parametrize("segment_bytes", [1, 2**23])
def test_every_sample_shows_its_own_values_however_the_graph_is_cut(
    segment_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate, "SEGMENT_BYTES", segment_bytes)
    graph, samples = small_cnn(), [(images(1, n),) for n in range(3)]
    found: dict[int, dict[int, np.ndarray]] = defaultdict(dict)
    float_values(graph, samples, lambda n, t, value: found[n].update({t: value.copy()}))
    for n, sample in enumerate(samples):
        expected = every_value(graph, sample)
        assert found[n].keys() == expected.keys()
        for t, value in expected.items():  # both in float32, other orders of sums
            np.testing.assert_allclose(found[n][t], value, rtol=1e-4, atol=1e-5)
    assert not np.array_equal(found[0][3], found[2][3])


def test_the_first_sample_is_put_aside_and_all_are_seen() -> None:
    graph, samples = small_cnn(), [(images(1, n),) for n in range(3)]
    seen: dict[int, int] = defaultdict(int)

    def see(t: int, value: np.ndarray) -> None:
        seen[t] += 1

    with waiting() as runs:
        done = float_run(graph, samples, runs, 1, see)
        kept = runs.kept()
        expected = every_value(graph, samples[0])
        assert set(done.tensors) == set(expected) == set(seen)
        assert set(seen.values()) == {3}
        assert len(kept) == len(expected)
        for t in done.tensors:
            np.testing.assert_allclose(kept[done.name(0, t)], expected[t], rtol=1e-4, atol=1e-5)


def test_positions_lie_in_stretches_of_equal_length() -> None:
    where = positions(5 * SAMPLE + 3)
    edges = np.arange(SAMPLE + 1) * (5 * SAMPLE + 3) // SAMPLE
    assert ((edges[:-1] <= where) & (where < edges[1:])).all()
    values = np.arange(7 * 11, dtype=np.float32).reshape(7, 11)
    assert np.array_equal(drawn(values), np.arange(77))


@pytest.mark.skipif(sys.platform != "linux", reason="pages are counted by Linux alone")
def test_an_interpreter_holds_its_weights_once() -> None:
    """They are packed by the fast kernels; what was mapped of the file is let go."""
    net = Net(1, 2053)
    graph = net.graph(net.dense(0, 4099))  # 32 MiB of weights
    sample = [np.ones((1, 2053), np.float32)]
    with flatbuffer.scratch(graph) as path:
        runner = Runner(path)
        before = runner.run(sample)
        mapped = _resident(path)
        np.testing.assert_array_equal(runner.run(sample)[0], before[0])
    assert mapped < 2**20


def _resident(path: str) -> int:
    """Bytes of the mappings of `path` that are in memory."""
    found = 0
    mine = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ", 1)[0] and ":" not in line.split(" ", 1)[0]:
            mine = line.endswith((path, f"{path} (deleted)"))
        elif mine and line.startswith("Rss:"):
            found += int(line.split()[1]) * 1024
    assert os.path.exists(path)
    return found
