"""With TensorFlow Model Optimization: each case of `tfmot_cases` in a process of its own."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import tfq_fine as tfq

CASES = (
    *("fine", "stock", "without_data", "without_data_two_inputs", "without_data_partly"),
    *("saved", "preserved", "clustered", "clusters_per_channel", "clipped", "pruned", "bad"),
)
FOLDER = "TFQ_TFMOT"  # where TFMOT is installed, when not beside the rest (`make test` does it)
ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("case", CASES)
def test_case(case: str):
    here = find_spec("tensorflow_model_optimization") is not None
    beside = os.environ.get(FOLDER)
    if not here and not beside:
        pytest.skip(f"TFMOT is not installed: make test, or set {FOLDER} to a folder that has it")
    path = os.pathsep.join(map(str, (ROOT, ROOT / "converters", ROOT / "tests", *([ROOT / beside] if beside else []))))
    command = [sys.executable, str(ROOT / "tests" / "tfmot_cases.py"), case]
    ran = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorflow_model_optimization", None)
    monkeypatch.delitem(sys.modules, "tfq_fine.tfmot.config", raising=False)
    with pytest.raises(tfq.TfqError, match=r"pip install 'tfq-fine\[tfmot\]'"):
        _ = tfq.tfmot.FineQuantizeConfig
