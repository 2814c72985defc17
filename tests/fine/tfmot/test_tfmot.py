"""With TensorFlow Model Optimization: the cases of `tfmot_cases`, in a process of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

import tfq_fine as tfq
from tfq_fine.numerics import affine
from tfq_fine.tfmot.qat import _range

CASES = (
    *("fine", "stock", "without_data", "without_data_two_inputs", "without_data_partly"),
    *("saved", "preserved", "clustered", "clusters_per_channel", "clipped", "turned_round", "pruned", "bad"),
)
FOLDER = "TFQ_TFMOT"  # where TFMOT is installed, when not with the rest (`make test` does it)
ROOT = Path(__file__).parents[3]


class Child(NamedTuple):
    """The process of the cases, and the file with what it says on stderr."""

    process: "subprocess.Popen[str]"
    errors: Path


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """The process that runs the cases, one after the other: TensorFlow and TFMOT are imported once."""
    here = find_spec("tensorflow_model_optimization") is not None
    beside = os.environ.get(FOLDER)
    if not here and not beside:
        pytest.skip(f"TFMOT is not installed: make test, or set {FOLDER} to a folder that has it")
    path = os.pathsep.join(map(str, (ROOT, ROOT / "converters", ROOT / "tests", *([ROOT / beside] if beside else []))))
    command = [sys.executable, "-P", str(ROOT / "tests" / "support" / "tfmot_cases.py")]
    errors = tmp_path_factory.mktemp("tfmot") / "errors"
    with (
        errors.open("w") as stream,
        subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": path}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream,
        ) as process,
    ):  # fmt: skip
        yield Child(process, errors)


@pytest.mark.parametrize("case", CASES)
def test_case(case: str, child: Child):
    stdin, stdout = child.process.stdin, child.process.stdout
    assert stdin is not None and stdout is not None
    stdin.write(case + "\n")
    stdin.flush()
    answer = stdout.readline()
    assert answer, child.errors.read_text()[-3000:]  # it died
    assert json.loads(answer) == ""


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorflow_model_optimization", None)
    monkeypatch.delitem(sys.modules, "tfq_fine.tfmot.config", raising=False)
    with pytest.raises(tfq.TfqError, match=r'pip install "tfq-fine\[tfmot\]"'):
        _ = tfq.tfmot.FineQuantizeConfig


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-0.7, 3.1), (0.0, 6.0)])
def test_ranges_are_encoded_as_they_were_trained(low: float, high: float):
    """TFMOT's fake quantization: scale (max - min) / 255 and a rounded zero point, of symmetric ranges too."""
    ends = {"output_min:0": low, "output_max:0": high}
    weights = [SimpleNamespace(name=name, numpy=lambda value=value: np.float32(value)) for name, value in ends.items()]
    found = _range(SimpleNamespace(weights=weights), "output_")
    assert found is not None
    encoding = affine.activation_encoding(*found, 8)
    scale = np.float32((np.float32(high) - np.float32(low)) / np.float32(255))
    np.testing.assert_allclose(encoding.scale, scale, rtol=1e-6)
    trained = tf.quantization.fake_quant_with_min_max_args([-10.0, 10.0], low, high, 8)  # its least and largest value
    np.testing.assert_allclose(encoding.decode(np.array([-128, 127], np.int8)), trained, atol=1e-6)
