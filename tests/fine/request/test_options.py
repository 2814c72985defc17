"""Options that mean nothing are refused, all in one error, before any work is done."""

from typing import Any

import numpy as np
import pytest

import tfq_fine as tfq
from support.nets import Net
from tfq_converters.errors import TfqError
from tfq_converters.flatbuffer.writing import write

WORDS = ("prefer", "on_unsupported", "on_invalid", "input_type", "output_type")
COUNTS = ("num_samples", "batch_size", "threads", "shards")


def model() -> bytes:
    net = Net(1, 7)
    return write(net.graph(net.dense(0, 5)))


def data() -> np.ndarray:
    return np.ones((3, 7), np.float32)


@pytest.mark.parametrize(
    ("options", "message"),
    [({name: "sped"}, f"{name}='sped': expected one of ") for name in WORDS]
    + [({name: 0}, f"{name}=0: expected at least 1") for name in COUNTS],
    ids=[*WORDS, *COUNTS],
)
def test_what_an_option_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TfqError) as caught:
        tfq.quantize(model(), "full_int8", data(), **options)
    assert message in str(caught.value)


def test_all_are_in_one_error() -> None:
    wrong: dict[str, Any] = dict.fromkeys(WORDS, "sped") | dict.fromkeys(COUNTS, -2)
    with pytest.raises(TfqError) as caught:
        tfq.quantize(model(), "full_int8", data(), **wrong)
    assert all(name in str(caught.value) for name in (*WORDS, *COUNTS))


def test_calibrate_looks_at_its_own() -> None:
    given: dict[str, Any] = {"on_invalid": "ignore", "batch_size": 0}
    with pytest.raises(TfqError, match=r"(?s)on_invalid='ignore': expected one of error, skip.*batch_size=0"):
        tfq.calibrate(model(), data(), **given)


def test_integer_borders_of_a_recipe_without_ranges_need_data() -> None:
    with pytest.raises(TfqError, match="input type int8 and output type float32 need representative data"):
        tfq.quantize(model(), "dynamic_int8", input_type="int8")
