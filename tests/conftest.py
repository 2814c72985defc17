"""What holds for every test: few threads, quiet frameworks, the same random numbers in every run."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # pytest runs one process per core
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

import contextlib
import random
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import hypothesis
import numpy as np
import pytest

from support.forked_children import Forks
from support.shared_conversions import shared_conversions
from tfq_converters.runtime import child_process

hypothesis.settings.register_profile("tests", deadline=None, derandomize=True)
hypothesis.settings.register_profile("few", deadline=None, derandomize=True, max_examples=3)
hypothesis.settings.load_profile("few" if os.environ.get("FEW_EXAMPLES") else "tests")


# Modules of few tests that take half a minute and more: begun first, so that no worker is left with one at the end.
LONGEST = (
    *("test_layers_saving", "test_keras_layers", "test_layers_models", "test_layers_file", "test_tfmot", "test_cli"),
    *("test_simulate", "test_consumers", "test_examples"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest modules first, then those of many tests: xdist hands them out in this order."""
    tests = Counter(item.path for item in items)
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (ranks.get(item.path.stem, len(ranks)), -tests[item.path], item.path))


@pytest.fixture(autouse=True)
def seeds() -> None:
    """The same random numbers whichever tests ran before; Keras too, where a test has loaded it."""
    random.seed(0)
    np.random.seed(0)
    for name in ("keras", "tf_keras"):
        if name in sys.modules:
            sys.modules[name].utils.set_random_seed(0)


@pytest.fixture(autouse=True, scope="session")
def forks() -> Iterator[None]:
    """Children that run files are forks of one process, which has loaded what they need (`forked_children`)."""
    forks = Forks(child_process.python_environment(OPENBLAS_NUM_THREADS="1"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(child_process, "subprocess", forks)
        yield
    forks.end()


@pytest.fixture(scope="module")
def conversions_once() -> Iterator[None]:
    """Equal models are converted once in the module that uses this (`shared_conversions`)."""
    with shared_conversions():
        yield


@pytest.fixture
def children_from_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children that run files are started as users' are, where the start itself is tested."""
    monkeypatch.setattr(child_process, "subprocess", subprocess)


def _devices() -> dict[str, tuple[int, int, int]]:
    """Path -> mode, device number and owner of every node in `/dev` that a careless program could replace."""
    found = {}
    with os.scandir("/dev") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode):
                    found[entry.path] = (status.st_mode, status.st_rdev, status.st_uid)
    return found


@pytest.fixture(autouse=True, scope="session")
def devices() -> Iterator[None]:
    """Fail the run if it replaced a device: as root, a test that writes to `/dev/null` harms the whole machine."""
    before = _devices()
    yield
    after = _devices()
    assert {path: after.get(path) for path in before} == before
