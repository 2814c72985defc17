"""netron's decoder of `.tflite` files: JavaScript inside its Python package, run by node."""

import json
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from support.consumers.installed import need

SCRIPT = Path(__file__).with_suffix(".mjs")
MODULES = ("base", "flatbuffers", "flexbuffers", "tflite", "tflite-schema", "zip")


def decoder(folder: Path) -> Path:
    """The script among copies of netron's modules, which node takes for modules only where a package.json says so."""
    need("netron")
    if shutil.which("node") is None:
        pytest.skip("netron's decoder is JavaScript: install node")
    spec = find_spec("netron")
    assert spec is not None and spec.origin is not None
    for name in MODULES:
        shutil.copy(Path(spec.origin).with_name(f"{name}.js"), folder)
    (folder / "package.json").write_text('{"type": "module"}')
    return Path(shutil.copy(SCRIPT, folder))


def constants(script: Path, content: bytes) -> dict[str, dict[str, Any]]:
    """What netron makes of every constant of the main subgraph: tensor name -> see the script."""
    path = script.with_name("model.tflite")
    path.write_bytes(content)
    done = subprocess.run(["node", str(script), str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found
