"""The arithmetic needs neither TensorFlow nor Keras: its tests pass in a process that cannot import them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("fine/numerics", "fine/request", "fine/placement", "fine/transforms", "converters/graph_edit")
PROGRAM = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "keras", "tf_keras"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
import pytest

sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=", *sys.argv[1:]]))
"""


def test_arithmetic_without_tensorflow():
    """The tests of five folders, with few examples of each property, as they run in full elsewhere."""
    folders = [str(ROOT / "tests" / folder) for folder in FOLDERS]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "FEW_EXAMPLES": "1"}
    command = [sys.executable, "-P", "-c", PROGRAM, *folders]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    last = done.stdout.strip().splitlines()[-1]
    assert int(last.split(" passed")[0].split()[-1]) > 150, last
