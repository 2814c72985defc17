"""Errors of constants in every encoding, their bytes, and latency: on graphs and sides made by hand."""

import dataclasses
import time
from typing import Any

import numpy as np
import pytest

from tfq_converters.graph import Graph, Op, Quantization, Subgraph, Tensor
from tfq_fine.numerics.sizes import constant_bytes
from tfq_fine.verification import latency
from tfq_fine.verification.layer_errors import constant_errors

compare_latency: Any = latency.compare_latency  # it is given a stand-in for a file


def _dense(weight, quantized=None, name="w", dequantized=False, output="y"):
    """A graph of one FULLY_CONNECTED, of a float weight or of the given quantized tensor, read directly or not."""
    tensors = [
        Tensor("x", (1, weight.shape[1]), "float32"),
        Tensor(name, weight.shape, "float32", data=weight) if quantized is None else quantized,
        Tensor(output, (1, weight.shape[0]), "float32"),
    ]
    ops = [Op("FULLY_CONNECTED", (0, 1, -1), (2,), layer="dense")]
    if dequantized:
        tensors.append(Tensor("between", weight.shape, "float32"))
        ops = [Op("DEQUANTIZE", (1,), (3,)), Op("FULLY_CONNECTED", (0, 3, -1), (2,))]
    return Graph((Subgraph("main", tuple(tensors), tuple(ops), (0,), (2,)),))


def _stored(dtype, codes, scale, zero=0, axis=0, block_size=0, name="w"):
    scale = np.asarray(scale, np.float32)
    quantization = Quantization(scale, np.full(scale.shape, zero, np.int64), axis, block_size)
    return Tensor(name, codes.shape, dtype, data=codes, quantization=quantization)


CODES = np.random.default_rng(3).integers(-7, 8, (3, 10)).astype(np.int8)  # coprime sides: an axis cannot be mistaken
SCALES = {0: np.array([0.5, 0.25, 2.0]), 1: 2.0 ** np.arange(-5, 5)}  # powers of two: products are exact
ENCODINGS = {
    "per tensor": (_stored("int8", CODES, [0.125]), CODES * 0.125),
    "zero point": (_stored("int8", CODES, [0.125], zero=3), (CODES - 3.0) * 0.125),
    "axis 0": (_stored("int4", CODES, SCALES[0]), CODES * SCALES[0][:, None]),
    "axis 1": (_stored("int4", CODES, SCALES[1], axis=1), CODES * SCALES[1]),
    "blocks": (
        _stored("int4", CODES, SCALES[0][:, None] * [1, 4], block_size=5),
        CODES * np.repeat(SCALES[0][:, None] * [1, 4], 5, axis=1),
    ),
    "int2": (_stored("int2", CODES % 4 - 2, SCALES[0]), (CODES % 4 - 2) * SCALES[0][:, None]),
}


@pytest.mark.parametrize("behind", ["read", "dequantized"])
@pytest.mark.parametrize("name", ["w", "renamed"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_of_constants_is_decoded(encoding, name, behind):
    stored, values = ENCODINGS[encoding]
    weight = np.array(values, np.float32)
    weight[1, 7] += 1.0
    quantized = _dense(weight, dataclasses.replace(stored, name=name), dequantized=behind == "dequantized")
    (error,) = constant_errors(_dense(weight), quantized)
    assert (error.name, error.layer, error.code, error.dtype) == ("w", "dense", "FULLY_CONNECTED", stored.dtype)
    assert error.max_error == 1.0  # the one difference; everything else is exact
    assert error.sqnr_db == pytest.approx(10 * np.log10(np.sum(weight.astype(np.float64) ** 2)))


@pytest.mark.parametrize(
    "quantized",
    [
        _dense(np.ones((3, 10), np.float32), _stored("int32", CODES.astype(np.int32), [1.0])),
        _dense(np.ones((3, 10), np.float32)),
        _dense(np.ones((3, 10), np.float32), Tensor("w", (3, 10), "int8", data=CODES)),
        _dense(np.ones((3, 10), np.float32), _stored("int8", CODES[:2], [1.0])),
        _dense(np.ones((3, 10), np.float32), _stored("int8", CODES, [1.0], name="other"), output="z"),
    ],
    ids=["32 bits", "still float", "no scale", "another size", "nothing in common"],
)
def test_what_does_not_stand_for_a_constant_is_not_compared(quantized):
    assert constant_errors(_dense(np.ones((3, 10), np.float32)), quantized) == ()


def test_packed_codes_and_shared_constants_count_once():
    data = np.zeros((3, 5), np.int8)
    tensors = (
        Tensor("a", (3, 5), "int4", data=data),
        Tensor("b", (3, 5), "int4", data=data),
        Tensor("c", (3, 5), "int2", data=data.copy()),
        Tensor("d", (3, 5), "int8", data=data.copy()),
        Tensor("e", (3, 5), "float32"),
    )
    assert constant_bytes(Graph((Subgraph("main", tensors, (), (), ()),))) == {"int2": 4, "int4": 8, "int8": 15}


class _Sleeper:
    """Takes the place of a side: an invocation sleeps."""

    threads = 1

    def __init__(self, name, seconds, calls):
        self.name, self.seconds, self.calls, self.runner = name, seconds, calls, self

    def encode(self, inputs):
        return inputs

    def invoke(self, inputs):
        self.calls.append(self.name)
        time.sleep(self.seconds)


def test_latency_is_interleaved_and_bounded():
    calls: list[str] = []
    start = time.perf_counter()
    found = compare_latency((_Sleeper("f", 0.004, calls), []), (_Sleeper("q", 0.012, calls), []), 1, seconds=0.4)
    assert time.perf_counter() - start < 1.0  # one more pair than fits, on a busy machine
    assert 1.5 < found.ratio < 3.1  # 3, less what a sleep takes longer than asked
    assert found.ratio == found.quantized_ms / found.float_ms
    assert found.repeats == calls.count("f") - 2 == calls.count("q") - 2
    assert found.repeats >= 10
    counted = "".join(calls[4:])
    assert set(zip(counted[::4], counted[1::4], counted[2::4], counted[3::4], strict=False)) == {("q", "f", "f", "q")}


def test_slow_files_are_run_three_times():
    calls: list[str] = []
    compare_latency((_Sleeper("f", 0.02, calls), []), (_Sleeper("q", 0.02, calls), []), 1, seconds=0.01)
    assert calls.count("f") == calls.count("q") == 2 + 3
