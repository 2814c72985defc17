"""A file that ends the process on one set of kernels has still been run on the other, and the error says which."""

import numpy as np
import pytest

from support.graphs import images, small_cnn
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, Op, Options, Quantization, Subgraph, Tensor
from tfq_converters.runtime.child_runs import waiting


@pytest.fixture(params=["forked", "from scratch"], autouse=True)
def start(request: pytest.FixtureRequest) -> None:
    """The forks that the other tests run files in behave as the processes that users run them in."""
    if request.param == "from scratch":
        request.getfixturevalue("children_from_scratch")


CLASSES = 600  # the int8 SOFTMAX of the reference kernels aborts the process where more than 512 classes are equal


def wide_softmax() -> Graph:
    def tensor(name: str, scale: float, zero_point: int) -> Tensor:
        form = Quantization(np.array([scale], np.float32), np.array([zero_point], np.int64))
        return Tensor(name, (1, CLASSES), "int8", quantization=form)

    tensors = (tensor("scores", 0.1, 0), tensor("shares", 1 / 256, -128))
    op = Op("SOFTMAX", (0,), (1,), Options("SoftmaxOptions", {"beta": 1.0}), version=2)
    return Graph((Subgraph("main", tensors, (op,), (0,), (1,)),))


def test_the_kernels_that_end_the_process_are_named() -> None:
    x = np.full((1, CLASSES), 3, np.int8)
    with waiting() as runs:
        runs.give(wide_softmax(), None, [1], [[x]], ["default", "reference"])
        found = runs.result("default")["output_0_0"]
        with pytest.raises(TfqError, match=r"on the reference kernels ended the process \(signal 6\)"):
            runs.result("reference")
        assert runs.is_done("reference") and not runs.refused("reference")
    assert np.abs(found.astype(float) + 128 - 256 / CLASSES).max() <= 1  # step


def test_both_kernels_show_what_is_wanted() -> None:
    with waiting() as runs:
        assert runs.give(small_cnn(), None, [3, 8], [[images(1)], [images(1, 1)]], ["default", "reference"]) == 1
        default, reference = runs.result("default"), runs.result("reference")
    assert set(default) == set(reference) == {f"{kind}_{n}_{k}" for n in (0, 1) for kind, ks in SHOWN for k in ks}
    for name in default:
        np.testing.assert_allclose(default[name], reference[name], atol=1e-5)  # float32 sums in another order


SHOWN = (("output", (0,)), ("tensor", (3, 8)))
