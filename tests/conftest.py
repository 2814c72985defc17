"""What holds for every test: few threads, quiet frameworks, the same random numbers in every run."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # pytest runs one process per core
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

import random
import sys

import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile("tests", deadline=None, derandomize=True)
hypothesis.settings.load_profile("tests")


@pytest.fixture(autouse=True)
def seeds() -> None:
    """The same random numbers whichever tests ran before; Keras too, where a test has loaded it."""
    random.seed(0)
    np.random.seed(0)
    for name in ("keras", "tf_keras"):
        if name in sys.modules:
            sys.modules[name].utils.set_random_seed(0)
