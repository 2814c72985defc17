"""The comparison of the files of two versions names what differs, for operators whose options are arrays too."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.same_files import compare
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Graph, Op, Options, Subgraph, Tensor


def reshaped(folder: Path, shape: tuple[int, ...], option: tuple[int, ...]) -> Path:
    tensors = (Tensor("x", (1, 6), "float32"), Tensor("y", shape, "float32"))
    op = Op("RESHAPE", (0,), (1,), Options("ReshapeOptions", {"newShape": np.array(option, np.int32)}))
    folder.mkdir()
    (folder / "model.recipe.tflite").write_bytes(write(Graph((Subgraph("main", tensors, (op,), (0,), (1,)),))))
    return folder


@pytest.mark.parametrize(
    ("shape", "option", "reasons"),
    [
        ((2, 3), (2, 3), []),
        ((2, 3), (3, 2), ["subgraph 0, operator 0: RESHAPE has other inputs, outputs, options or version"]),
        ((3, 2), (2, 3), ["subgraph 0, tensor 1 'y': shape (2, 3) became (3, 2)"]),
    ],
    ids=["equal", "option", "tensor"],
)
def test_what_differs_is_named(shape: tuple[int, ...], option: tuple[int, ...], reasons: list[str], tmp_path: Path):
    found = compare(reshaped(tmp_path / "a", (2, 3), (2, 3)), reshaped(tmp_path / "b", shape, option))
    assert [reason for difference in found for reason in difference.reasons] == reasons
