"""Reading and writing: what is written is read back, and runs to the same bits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.graphs import DENSE, images, small_cnn
from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.flatbuffer import writing
from tfq_converters.graph import Graph, Op, Options, Quantization, Subgraph, Tensor
from tfq_converters.runtime.runner import Runner


def test_a_round_trip_changes_nothing() -> None:
    graph = small_cnn()
    content = flatbuffer.write(graph)
    again = flatbuffer.read(content)
    assert flatbuffer.write(again) == content
    for before, after in zip(graph.main.tensors, again.main.tensors, strict=True):
        assert (before.name, before.shape, before.dtype) == (after.name, after.shape, after.dtype)
        if before.data is not None:
            np.testing.assert_array_equal(before.data, after.data)
    assert again.signatures == graph.signatures
    np.testing.assert_array_equal(
        Runner(content).run([images(1)])[0], Runner(flatbuffer.write(again)).run([images(1)])[0]
    )


def test_constants_behind_the_flatbuffer_compute_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout of files beyond 2 GB, forced on a small one."""
    graph = small_cnn()
    plain = Runner(flatbuffer.write(graph)).run([images(1)])[0]
    monkeypatch.setattr(writing, "FLATBUFFER_LIMIT", 100)
    path = tmp_path / "large.tflite"
    flatbuffer.save(graph, path)
    assert path.stat().st_size > len(next(iter(flatbuffer.pieces(graph))))
    np.testing.assert_array_equal(Runner(str(path)).run([images(1)])[0], plain)
    again = flatbuffer.read(path)
    np.testing.assert_array_equal(again.main.tensors[1].data, graph.main.tensors[1].data)  # type: ignore[arg-type]


def test_constants_are_aligned_as_the_schema_asks() -> None:
    content = flatbuffer.write(small_cnn())
    for tensor in flatbuffer.read(content).main.tensors:
        if tensor.data is not None:
            start = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
            assert (tensor.data.__array_interface__["data"][0] - start) % writing.ALIGNMENT == 0


def test_equal_constants_are_stored_once() -> None:
    graph = small_cnn()
    data = np.arange(10_000, dtype=np.float32)
    one = replace(graph, subgraphs=(replace(graph.main, tensors=(*graph.main.tensors, _tensor("a", data))),))
    two = replace(one, subgraphs=(replace(one.main, tensors=(*one.main.tensors, _tensor("b", data.copy()))),))
    assert len(flatbuffer.write(two)) - len(flatbuffer.write(one)) < 1000


def _tensor(name: str, data: np.ndarray) -> Tensor:
    return Tensor(name, data.shape, "float32", data=data)


@pytest.mark.parametrize("bits", [4, 2])
def test_small_codes_survive_the_file(bits: int) -> None:
    codes = np.resize(np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1), dtype=np.int8), (5, 33))
    quantization = Quantization(np.linspace(0.1, 1, 5, dtype=np.float32), np.zeros(5, np.int64), 0)
    tensor = Tensor("codes", codes.shape, f"int{bits}", data=codes, quantization=quantization)
    graph = small_cnn()
    graph = replace(graph, subgraphs=(replace(graph.main, tensors=(*graph.main.tensors, tensor)),))
    again = flatbuffer.read(flatbuffer.write(graph)).main.tensors[-1]
    np.testing.assert_array_equal(again.data, codes)  # type: ignore[arg-type]
    assert again.quantization is not None
    np.testing.assert_array_equal(again.quantization.scale, quantization.scale)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a TFLite file"),
        (b"PK\x03\x04" + bytes(100), "not a TFLite file"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(4), "truncated or damaged"),
    ],
    ids=["empty", "zip", "header_alone"],
)
def test_damaged_files_are_a_clear_error(content: bytes, message: str) -> None:
    with pytest.raises(TfqError, match=message):
        flatbuffer.read(content)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_truncated_files_are_a_clear_error(share: float) -> None:
    content = flatbuffer.write(small_cnn())
    with pytest.raises(TfqError, match="truncated"):
        flatbuffer.read(content[: int(len(content) * share)])


def test_nothing_is_left_behind_where_the_path_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(TfqError, match="cannot be written"):
        flatbuffer.save(small_cnn(), tmp_path / "no_such_folder" / "model.tflite")
    target = tmp_path / "model.tflite"
    target.mkdir()
    with pytest.raises(TfqError, match="cannot be written"):
        flatbuffer.save(small_cnn(), target)
    assert list(tmp_path.iterdir()) == [target]


def test_equal_vectors_are_stored_once() -> None:
    """Twenty tensors with the same zero points and scales cost little more than one."""

    def size(scales: list[np.ndarray]) -> int:
        tensors = tuple(
            Tensor(f"t{n}", (64, 1), "int8", quantization=Quantization(scale, np.zeros(64, np.int64)))
            for n, scale in enumerate(scales)
        )
        return len(flatbuffer.write(Graph((Subgraph("main", tensors, (), (), ()),))))

    same, other = np.ones(64, np.float32), np.linspace(1, 2, 64, dtype=np.float32)
    assert size([same] * 20) - size([same]) < 20 * 128  # a vector of 64 scales alone has 256 bytes
    assert size([same, other]) - size([same, same]) >= other.nbytes


def test_blockwise_scales_are_read_back() -> None:
    """They are in a tensor of their own in the file, and in the quantization of the weight here."""
    rng = np.random.default_rng(0)
    codes = rng.integers(-7, 8, (5, 64)).astype(np.int8)
    scale = np.exp2(rng.integers(-6, 0, (5, 2))).astype(np.float32)
    blocks = Quantization(scale, np.zeros((5, 2), np.int64), 0, 32)
    tensors = (
        Tensor("x", (1, 64), "float32"),
        Tensor("kernel", (5, 64), "int4", data=codes, quantization=blocks),
        Tensor("y", (1, 5), "float32"),
    )
    options = Options("FullyConnectedOptions", DENSE | {"asymmetricQuantizeInputs": True})
    ops = (Op("FULLY_CONNECTED", (0, 1, -1), (2,), options, version=13),)
    content = flatbuffer.write(Graph((Subgraph("main", tensors, ops, (0,), (2,)),)))
    again = flatbuffer.read(content)
    assert len(again.main.tensors) == 3
    found = again.main.tensors[1].quantization
    assert found is not None and found.block_size == 32
    np.testing.assert_array_equal(found.scale, scale)
    assert flatbuffer.write(again) == content
    inputs = [rng.normal(size=(1, 64)).astype(np.float32)]
    np.testing.assert_array_equal(Runner(content).run(inputs)[0], Runner(flatbuffer.write(again)).run(inputs)[0])
