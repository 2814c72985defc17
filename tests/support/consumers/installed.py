"""Whether a consumer is there, or how to get it."""

import os
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

CONSUMERS = 'pip install "tfq_fine[consumers]"'
TOSA_PACKAGE = "tosa-tools"  # the reference model; it pins an older NumPy than TensorFlow comes with
TOSA_VENV = "TFQ_TOSA_VENV"  # names the folder of their virtual environment, which is made when it is missing


def need(module: str) -> None:
    """Skip the test where `module` is not installed."""
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed: {CONSUMERS}")


@cache
def tosa_python() -> Path:
    """The Python that has TOSA's reference model; skips the test where nobody asked for one."""
    folder = os.environ.get(TOSA_VENV)
    if not folder:
        pytest.skip(f"{TOSA_PACKAGE} is not installed: set {TOSA_VENV}=FOLDER, where the tests then install it")
    python = Path(folder).absolute() / "bin" / "python"
    if not python.with_name("tosa-opt").exists():
        subprocess.run([sys.executable, "-P", "-m", "venv", folder], check=True)
        subprocess.run([python, "-P", "-m", "pip", "install", "--quiet", TOSA_PACKAGE], check=True)
    return python
