"""Without an extra, one sentence says which one it is: in a process that cannot import what the extras bring."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import tfq_fine as tfq
from support.graphs import images, small_cnn
from tfq_converters import flatbuffer
from tfq_converters.errors import EXTRAS, extras_named

PROGRAM = """
import json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
import numpy as np
import tfq_fine as tfq
from tfq_fine.cli.program import main
from tfq_fine.verification.task_metrics import auc

def unread():
    raise AssertionError("the data is read before the request is checked")


data, said = np.load("data.npy"), {{}}
result = tfq.quantize("model.tflite", "dynamic_int8", progress=False)
assert tfq.verify("model.tflite", result, data).samples == len(data)
cases = {{
    "a Keras file": lambda: tfq.quantize("model.keras"),
    "a damaged Keras file": lambda: tfq.quantize("damaged.keras"),
    "an HDF5 file": lambda: tfq.calibrate("model.h5", data),
    "a SavedModel": lambda: tfq.quantize("saved"),
    "verify": lambda: tfq.verify("model.keras", result, data),
    "search": lambda: tfq.search("model.keras", data, max_bytes="50%"),
    "analyze": lambda: tfq.analyze("model.keras", data),
    "load_model": lambda: tfq.load_model("model.keras"),
    "simulate": lambda: tfq.simulate("model.keras", result),
    "a layer": lambda: tfq.layers.FineQuantize,
    "learned roundings": lambda: tfq.quantize("model.tflite", "weight_only_int4", unread, quality="best"),
    "an image": lambda: tfq.ImageFolder("images", (8, 8))[0],
    "its preprocessing": lambda: tfq.ImageFolder("images", (8, 8), preprocess="mobilenet_v2"),
    "tfmot": lambda: tfq.tfmot.FineQuantizeConfig,
    "a page": lambda: result.report.save_html("report.html"),
    "a metric": lambda: auc(np.zeros((8, 1)), np.array([0, 1] * 4)),
}}
for name, case in cases.items():
    try:
        case()
        said[name] = "nothing"
    except tfq.TfqError as error:
        said[name] = str(error)
print(json.dumps(said))
try:
    main(["quantize", "model.keras", "--recipe", "dynamic_int8", "--output", "out.tflite"])
except SystemExit as end:
    print(end.code)
"""
PACKAGES = {package for _, packages in EXTRAS.values() for package in packages}
CASES = {
    **dict.fromkeys(("a Keras file", "a damaged Keras file", "an HDF5 file", "a SavedModel", "verify"), "keras"),
    **dict.fromkeys(("search", "analyze", "load_model", "simulate", "a layer", "learned roundings"), "keras"),
    "an image": "keras",
    "its preprocessing": "keras",
    "tfmot": "tfmot",
    "a page": "report",
    "a metric": "metrics",
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], str, str]:
    """What each case says, the exit code of the command, and what it printed to stderr."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "model.tflite").write_bytes(flatbuffer.write(small_cnn()))
    np.save(folder / "data.npy", images(8))
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"module": "keras", "class_name": "Sequential", "config": {}}))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
    (folder / "damaged.keras").write_bytes(b"PK\x03\x04nothing")
    (folder / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(200))
    (folder / "saved/variables").mkdir(parents=True)
    (folder / "saved/saved_model.pb").write_bytes(b"\x08\x01")
    (folder / "images").mkdir()
    (folder / "images/a.png").write_bytes(b"no image")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    program = PROGRAM.format(blocked=PACKAGES)
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    sentences, code = done.stdout.strip().splitlines()
    return json.loads(sentences), code, done.stderr


@pytest.mark.parametrize("case", CASES)
def test_the_extra_is_named_in_one_sentence(case: str, said: tuple[dict[str, str], str, str]):
    sentence = said[0][case].replace("tfq_fine[", "tfq-fine[")
    assert f"tfq-fine[{CASES[case]}]" in sentence and "pip install" in sentence
    assert "\n" not in sentence and "No module named" not in sentence


def test_the_command_says_it_too(said: tuple[dict[str, str], str, str]):
    _, code, stderr = said
    assert code == "2"
    (line,) = (line for line in stderr.splitlines() if line.startswith("tfq-fine:"))
    assert 'pip install "tfq-fine[keras]"' in line
    assert "Traceback" not in stderr and "defect" not in stderr


def test_each_extra_is_one_of_the_project():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert all(f"\n{extra} = [" in text for extra in EXTRAS)


def test_other_packages_are_left_alone():
    with pytest.raises(ModuleNotFoundError, match="my_own"), extras_named():
        raise ModuleNotFoundError("No module named 'my_own'", name="my_own")
    with (
        pytest.raises(tfq.TfqError, match=r"metrics of scikit-learn need sklearn.*tfq-fine\[metrics\]"),
        extras_named(),
    ):
        raise ModuleNotFoundError("No module named 'sklearn.metrics'", name="sklearn.metrics")
