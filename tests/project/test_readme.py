"""The Python of the README runs as it stands."""

import re
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import tfq_fine as tfq

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            layers.Input((9, 7, 3)),
            layers.Conv2D(5, 3, activation="relu", name="stem_conv"),
            layers.Conv2D(70, 1, activation="relu", name="wide"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(6, name="head"),
        ]
    )
    images = np.random.default_rng(0).normal(size=(20, 9, 7, 3)).astype(np.float32)
    labels = np.arange(20) % 6
    names = {"model": model, "images": images, "test_images": images, "labels": labels, "test_labels": labels}
    monkeypatch.chdir(tmp_path)
    blocks = [textwrap.dedent(block) for block in re.findall(r"^ *```python\n(.*?)^ *```", README, re.M | re.S)]
    assert len(blocks) == 3
    for block in blocks:
        exec(block, names)
    report = names["report"]
    assert report.samples == 20 and report.task is not None  # type: ignore[attr-defined]
    result = tfq.quantize(model, names["recipe"], data=images)  # type: ignore[arg-type]
    rows = {row.layer: row for row in result.report.rows if row.code in ("CONV_2D", "FULLY_CONNECTED")}
    assert rows["head"].weights == "int4 blocks of 64" and rows["head"].form == "blockwise"
    assert rows["stem_conv"].mode == "float" and rows["wide"].mode == "integer"
