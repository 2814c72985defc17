"""Files that end, stop or keep busy the process that runs them never do so to the user's."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from support.graphs import images, small_cnn
from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, Op, Options, Quantization, Subgraph, Tensor
from tfq_converters.runtime import apart_process as module
from tfq_converters.runtime import child_runs, patience
from tfq_converters.runtime.apart_process import apart
from tfq_converters.runtime.mailbox import Mailbox
from tfq_converters.runtime.patience import Clock, float_seconds, limit_of
from tfq_fine.api import quantize
from tfq_fine.verification import verify

pytestmark = pytest.mark.usefixtures("children_from_scratch")
CONTENT = flatbuffer.write(small_cnn())
DATA = np.concatenate([images(1, n) for n in range(3)])


def test_arrays_of_every_type_arrive(tmp_path: Path):
    sides = Mailbox(tmp_path / "box"), Mailbox(tmp_path / "box")
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(3, 5)).astype(dtype) for dtype in ("f4", "f2", "i1", "i8", "c8", "?")]
    arrays += [
        np.zeros((0, 3), np.float32),
        np.array(2.5, np.float32),
        np.array([["a", "\u00e9"], ["", "b\0"]], object),
    ]
    arrays.append(rng.normal(size=(7, 11)).astype("f4").T)
    for put in (arrays[:2], arrays, [rng.normal(size=100_000)]):
        taken = sides[1].take(sides[0].put(put))
        for a, b in zip(put, taken, strict=True):
            expected = np.vectorize(str.encode, otypes=[object])(a) if a.dtype.hasobject else a
            np.testing.assert_array_equal(expected, b)
    for side in sides:
        side.close()


def test_a_file_runs_elsewhere_as_it_does_here():
    from_here = verify(CONTENT, quantize(CONTENT, "full_int8", DATA).content, DATA, batch_size=2)
    assert from_here.latency is not None and from_here.latency.ratio > 0
    assert from_here.samples == 3 and from_here.layers


def _abort_graph() -> Graph:
    """The int8 SOFTMAX of the reference kernels ends the process where more than 512 classes are equal."""

    def tensor(name: str, scale: float, zero_point: int) -> Tensor:
        form = Quantization(np.array([scale], np.float32), np.array([zero_point], np.int64))
        return Tensor(name, (1, 600), "int8", quantization=form)

    tensors = (tensor("x", 0.1, 0), tensor("y", 1 / 256, -128))
    op = Op("SOFTMAX", (0,), (1,), Options("SoftmaxOptions", {"beta": 1.0}), version=2)
    return Graph((Subgraph("main", tensors, (op,), (0,), (1,)),))


def test_a_file_that_ends_its_process_is_an_error_of_verify():
    tensors = (Tensor("x", (1, 600), "float32"), Tensor("y", (1, 600), "float32"))
    op = Op("SOFTMAX", (0,), (1,), Options("SoftmaxOptions", {"beta": 1.0}))
    floating = flatbuffer.write(Graph((Subgraph("main", tensors, (op,), (0,), (1,)),)))
    with pytest.raises(TfqError, match=r"the quantized file: running it ended the process \(signal 6\)"):
        verify(floating, flatbuffer.write(_abort_graph()), np.ones((1, 600), np.float32), kernels="reference")


def _stops(monkeypatch: pytest.MonkeyPatch, where) -> None:  # type: ignore[no-untyped-def]
    """Every child of `where` is stopped as soon as it has begun."""
    start = subprocess.Popen

    def stopped(*arguments, **options):  # type: ignore[no-untyped-def]
        child = start(*arguments, **options)
        os.kill(child.pid, signal.SIGSTOP)
        return child

    monkeypatch.setattr(where.subprocess, "Popen", stopped)


def test_a_stopped_child_ends_quantize(monkeypatch: pytest.MonkeyPatch):
    _stops(monkeypatch, child_runs)
    start = time.monotonic()
    with pytest.raises(TfqError, match=r"did not end within 0.5 seconds, and was stopped .*timeout=SECONDS"):
        quantize(CONTENT, timeout=0.5)
    assert time.monotonic() - start < 30


def test_without_an_option_the_limit_follows_the_float_model(monkeypatch: pytest.MonkeyPatch):
    _stops(monkeypatch, child_runs)
    monkeypatch.setattr(patience, "LEAST", 0.25)
    with pytest.raises(TfqError, match="did not end within") as error:
        quantize(CONTENT)
    assert "the float model took" in str(error.value)
    assert limit_of(2.0, None) == 0.25 + 2.0 * patience.FACTOR and limit_of(2.0, 7.0) == 7.0


def test_a_stopped_child_ends_verify(monkeypatch: pytest.MonkeyPatch):
    quantized = quantize(CONTENT).content
    _stops(monkeypatch, module)
    monkeypatch.setattr(module, "START", 0.5)
    with pytest.raises(TfqError, match=r"the float model: running it did not end within 0.5 seconds"):
        verify(CONTENT, quantized, DATA, timeout=0.5)


def test_a_child_that_is_stopped_in_between_ends_too():
    with apart(timeout=0.5) as elsewhere:
        runner = elsewhere.open(CONTENT, "default", 1, "the file")
        assert len(runner.run([images(1)])) == 1
        os.kill(elsewhere._process.pid, signal.SIGSTOP)
        with pytest.raises(TfqError, match=r"the file: running it did not end within 0.5 seconds"):
            runner.run([images(1)])


def test_time_in_which_this_process_is_stopped_is_not_counted(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(patience.time, "monotonic", lambda: now[0])
    clock = Clock()
    waited = []
    for then in (0.5, 1000.5, 1001.0):
        now[0] = then
        waited.append(clock.look())
    assert waited == [0.5, 1.5, 2.0]


def test_the_estimate_grows_with_the_model_and_the_batch():
    assert float_seconds(small_cnn(), 10) == pytest.approx(10 * float_seconds(small_cnn(), 1))
    main = small_cnn().main
    conv = next(op for op in main.ops if op.code == "CONV_2D")
    out, weight = main.tensors[conv.outputs[0]].shape, main.tensors[conv.inputs[1]].shape
    products = np.prod(out[:3]) * np.prod(weight)
    assert float_seconds(small_cnn(), 1) * patience.PER_SECOND > products


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), "soon"])
def test_a_bad_timeout(timeout):
    for call in (lambda: quantize(CONTENT, timeout=timeout), lambda: verify(CONTENT, CONTENT, DATA, timeout=timeout)):
        with pytest.raises(TfqError, match=r"timeout=.*: expected seconds above 0"):
            call()


def test_no_threads_are_left():
    before = threading.active_count()
    with apart() as elsewhere:
        elsewhere.open(CONTENT, "default", 1, "the file").run([images(1)])
    assert threading.active_count() == before
    assert elsewhere._process.returncode == -signal.SIGKILL
