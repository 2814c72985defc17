"""Errors of constants in every encoding, their bytes, and latency: on graphs and sides made by hand."""

import dataclasses
import time
from typing import Any

import numpy as np
import pytest

from tfq_converters.graph import Graph, Op, Quantization, Subgraph, Tensor
from tfq_fine.numerics.sizes import constant_bytes
from tfq_fine.verification import latency
from tfq_fine.verification.layer_errors import activation_errors, constant_errors

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


def _two_dense(first, second, name):
    """x -> FULLY_CONNECTED `first` -> FULLY_CONNECTED `second`, both float."""
    tensors = (
        Tensor("x", (1, 5), "float32"),
        Tensor(f"{name}1", first.shape, "float32", data=first),
        Tensor("a", (1, 3), "float32"),
        Tensor(f"{name}2", second.shape, "float32", data=second),
        Tensor("b", (1, 2), "float32"),
    )
    ops = (Op("FULLY_CONNECTED", (0, 1, -1), (2,), layer="one"), Op("FULLY_CONNECTED", (2, 3, -1), (4,), layer="two"))
    return Graph((Subgraph("main", tensors, ops, (0,), (4,)),))


def test_own_errors_do_not_hold_those_of_the_layers_before():
    random = np.random.default_rng(5)
    one, two = random.normal(size=(3, 5)).astype(np.float32), random.normal(size=(2, 3)).astype(np.float32)
    other_one, other_two = one + np.float32(0.1) * random.normal(size=one.shape).astype(np.float32), two * 1.25
    x = random.normal(size=(7, 1, 5)).astype(np.float32)
    samples = [([sample], [sample]) for sample in x]
    rows: Any = activation_errors(_two_dense(one, two, "w"), _two_dense(other_one, other_two, "v"), samples)

    def db(expected, found):
        return 10 * np.log10(np.sum(expected**2) / np.sum((expected - found) ** 2))

    a, other_a = x @ one.T, x @ other_one.T
    b = a @ two.T
    assert [row.layer for row in rows] == ["one", "two"]
    assert rows[0].own_db == rows[0].sqnr_db == pytest.approx(db(a, other_a), abs=1e-3)  # float32 sums of 5 products
    assert rows[1].sqnr_db == pytest.approx(db(b, other_a @ other_two.T), abs=1e-3)
    assert rows[1].own_db == pytest.approx(db(b, a @ other_two.T), abs=1e-3)
    assert rows[0].inherited == 0
    inherited = 1 - 10 ** ((rows[1].sqnr_db - rows[1].own_db) / 10)
    assert 0.05 < inherited < 0.95  # so that the two cannot be mistaken
    assert rows[1].inherited == pytest.approx(inherited)


def test_weights_are_told_from_activations():
    """A dense layer with int8 codes on an int8 input: own error, and that of the codes alone, from numpy."""
    random = np.random.default_rng(8)
    weight = random.normal(size=(3, 5)).astype(np.float32)
    scale, coarse = np.float32(0.05), np.float32(0.25)
    codes = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
    per_tensor = Quantization(np.array([scale]), np.array([0], np.int64), 0)
    steps = Quantization(np.array([coarse]), np.array([0], np.int64), 0)
    tensors = (
        Tensor("x", (1, 5), "float32"),
        Tensor("x_codes", (1, 5), "int8", quantization=steps),
        Tensor("w", (3, 5), "int8", data=codes, quantization=per_tensor),
        Tensor("x_back", (1, 5), "float32"),
        Tensor("w_back", (3, 5), "float32"),
        Tensor("y", (1, 3), "float32"),
    )
    ops = (
        Op("QUANTIZE", (0,), (1,)),
        Op("DEQUANTIZE", (1,), (3,)),
        Op("DEQUANTIZE", (2,), (4,)),
        Op("FULLY_CONNECTED", (3, 4, -1), (5,)),
    )
    quantized = Graph((Subgraph("main", tensors, ops, (0,), (5,)),))
    x = random.normal(size=(9, 1, 5)).astype(np.float32)
    rows: Any = activation_errors(_dense(weight), quantized, [([sample], [sample]) for sample in x])
    (row,) = rows
    y, rounded = x @ weight.T, np.rint(x / coarse) * coarse
    noise = np.sum((y - rounded @ (codes * scale).T) ** 2)
    of_codes = np.sum((y - x @ (codes * scale).T) ** 2)
    assert row.own_db == pytest.approx(10 * np.log10(np.sum(y**2) / noise), abs=1e-3)
    assert row.weights_db == pytest.approx(10 * np.log10(np.sum(y**2) / of_codes), abs=1e-3)
    assert row.of_weights == pytest.approx(of_codes / noise, rel=1e-3)
    assert row.of_weights < 0.2  # the input's steps are coarse, the weight's are not
