"""Float16 and sparse `.tflite` files are read as the float32 models that they stand for."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.schema_py_generated import DimensionType, SparseIndexVector

import tfq_fine as tfq
from support.graphs import DENSE, images, small_cnn
from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, Op, Options, Subgraph, Tensor
from tfq_converters.reading.reader import read_model
from tfq_converters.runtime.runner import Runner


def half_file(graph: Graph) -> Graph:
    """`graph` with every float32 constant as float16 before a DEQUANTIZE, as the stock converter writes it."""
    tensors, ops = list(graph.main.tensors), []
    for index, tensor in enumerate(graph.main.tensors):
        if tensor.dtype == "float32" and tensor.data is not None:
            stored = replace(tensor, name=f"{tensor.name}_half", dtype="float16", data=tensor.data.astype(np.float16))
            tensors.append(stored)
            tensors[index] = replace(tensor, data=None)
            ops.append(Op("DEQUANTIZE", (len(tensors) - 1,), (index,), Options("DequantizeOptions", {}), 3))
    main = replace(graph.main, tensors=tuple(tensors), ops=(*ops, *graph.main.ops))
    return replace(graph, subgraphs=(main, *graph.subgraphs[1:]))


def dense_graph(kernel: np.ndarray) -> Graph:
    """One dense layer over `kernel` [outputs, inputs]."""
    tensors = (
        Tensor("x", (1, kernel.shape[1]), "float32"),
        Tensor("kernel", kernel.shape, "float32", data=kernel.astype(np.float32)),
        Tensor("y", (1, kernel.shape[0]), "float32"),
    )
    op = Op("FULLY_CONNECTED", (0, 1, -1), (2,), Options("FullyConnectedOptions", DENSE))
    return Graph((Subgraph("main", tensors, (op,), (0,), (2,)),))


def test_a_float16_file_is_read_as_the_float_model() -> None:
    content = flatbuffer.write(half_file(small_cnn()))
    source = read_model(content)
    assert "DEQUANTIZE" not in {op.code for op in source.graph.main.ops}
    assert any("its 6 constants were read as float32" in note for note in source.notes)
    found = Runner(flatbuffer.write(source.graph)).run([images(1)])[0]
    np.testing.assert_array_equal(found, Runner(content).run([images(1)])[0])


@pytest.mark.parametrize("recipe", ["dynamic_int8", "weight_only_int8", "full_int8"])
def test_a_float16_file_is_quantized_as_the_float_model_of_its_values(recipe: str) -> None:
    half = half_file(small_cnn())
    plain = read_model(flatbuffer.write(half)).graph
    data = images(9)
    assert tfq.quantize(flatbuffer.write(half), recipe, data).content == (
        tfq.quantize(flatbuffer.write(plain), recipe, data).content
    )


def test_every_float16_value_is_written_back_as_it_was() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    kernel = every[np.isfinite(every)].reshape(248, 256)
    result = tfq.quantize(flatbuffer.write(half_file(dense_graph(kernel))), "float16")
    (stored,) = [t.data for t in flatbuffer.read(result.content).main.tensors if t.dtype == "float16"]
    assert stored is not None
    np.testing.assert_array_equal(stored.view(np.uint16), kernel.view(np.uint16))


def test_float16_that_is_more_than_stored_constants_is_refused() -> None:
    graph = half_file(small_cnn())
    pad = Op("RESHAPE", (len(graph.main.tensors) - 1, 7), (12,))  # an operator reads the float16 constant itself
    broken = replace(graph, subgraphs=(replace(graph.main, ops=(*graph.main.ops[:-1], pad)),))
    with pytest.raises(TfqError, match="constant 'dense/bias_half' is float16"):
        read_model(flatbuffer.write(broken))


# levels: for each, the dimension (those of blocks come after those of the array), and whether it is compressed
SPARSE = {
    "rows": ((5, 7), (), (), ((0, False), (1, True))),
    "columns": ((5, 7), (), (), ((1, False), (0, True))),
    "blocks of four": ((3, 1, 1, 8), (3,), (4,), ((0, False), (1, False), (2, False), (3, True), (4, False))),
    "blocks of 2 x 3": ((4, 9), (0, 1), (2, 3), ((0, False), (1, True), (2, False), (3, False))),
    "all compressed": ((3, 4, 5), (), (), ((2, True), (0, True), (1, True))),
}


def sparse_tensor(name: str, values: np.ndarray, case: str) -> Tensor:
    """`values` as the format stores them; the recursion of the format's own description."""
    shape, block_map, block_size, levels = SPARSE[case]
    sizes = [n // block_size[block_map.index(axis)] if axis in block_map else n for axis, n in enumerate(shape)]
    sizes += block_size
    segments: list[list[int]] = [[0] for _ in levels]
    indices: list[list[int]] = [[] for _ in levels]
    stored: list[Any] = []

    def part(chosen: dict[int, int]) -> np.ndarray:
        """The values under the indices that are chosen so far."""
        found = np.ones(shape, bool)
        where = np.indices(shape)
        for dimension, index in chosen.items():
            if dimension < len(shape):
                step = block_size[block_map.index(dimension)] if dimension in block_map else 1
                found &= where[dimension] // step == index
            else:
                axis = block_map[dimension - len(shape)]
                found &= where[axis] % block_size[dimension - len(shape)] == index
        return values[found]

    def walk(level: int, chosen: dict[int, int]) -> None:
        if level == len(levels):
            stored.append(part(chosen)[0])
            return
        dimension, compressed = levels[level]
        for index in range(sizes[dimension]):
            below = {**chosen, dimension: index}
            if not compressed or part(below).any():
                indices[level].append(index)
                walk(level + 1, below)
        segments[level].append(len(indices[level]))

    walk(0, {})

    def vector(numbers: Sequence[int]) -> tuple[str, dict[str, Any]]:
        return "Int32VectorT", {"values": np.array(numbers, np.int32)}

    metadata = [
        (
            "DimensionMetadataT",
            {
                "format": DimensionType.SPARSE_CSR,
                "arraySegmentsType": SparseIndexVector.Int32Vector,
                "arraySegments": vector(segments[n]),
                "arrayIndicesType": SparseIndexVector.Int32Vector,
                "arrayIndices": vector(indices[n]),
            }
            if compressed
            else {"format": DimensionType.DENSE, "denseSize": sizes[dimension]},
        )
        for n, (dimension, compressed) in enumerate(levels)
    ]
    sparsity = {
        "traversalOrder": np.array([dimension for dimension, _ in levels], np.int32),
        "blockMap": np.array(block_map, np.int32) if block_map else None,
        "dimMetadata": metadata,
    }
    flat = np.array(stored, values.dtype)
    return Tensor(name, shape, values.dtype.name, data=flat, extra={"sparsity": ("SparsityParametersT", sparsity)})


def sparse_file(values: np.ndarray, case: str) -> bytes:
    """x + DENSIFY(a sparse constant), in float16 with a DEQUANTIZE between."""
    tensors = [Tensor("x", values.shape, "float32"), sparse_tensor("w", values, case)]
    tensors += [Tensor("dense", values.shape, values.dtype.name), Tensor("y", values.shape, "float32")]
    ops = [Op("DENSIFY", (1,), (2,), Options("DensifyOptions", {}))]
    last = 2
    if values.dtype == np.float16:
        tensors.append(Tensor("wide", values.shape, "float32"))
        ops.append(Op("DEQUANTIZE", (2,), (4,), Options("DequantizeOptions", {}), 3))
        last = 4
    ops.append(Op("ADD", (0, last), (3,), Options("AddOptions", {"fusedActivationFunction": 0, "potScaleInt16": True})))
    return flatbuffer.write(Graph((Subgraph("main", tuple(tensors), tuple(ops), (0,), (3,)),)))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("case", SPARSE)
def test_sparse_constants_are_unpacked_as_the_runtime_does(case: str, dtype: type) -> None:
    rng = np.random.default_rng(3)
    shape = SPARSE[case][0]
    values = (rng.normal(size=shape) * (rng.random(shape) < 0.4)).astype(dtype)
    content = sparse_file(values, case)
    zeros = np.zeros(shape, np.float32)
    np.testing.assert_array_equal(Runner(content, "reference").run([zeros])[0], values.astype(np.float32))
    source = read_model(content)
    assert [op.code for op in source.graph.main.ops] == ["ADD"]
    np.testing.assert_array_equal(Runner(flatbuffer.write(source.graph)).run([zeros])[0], values.astype(np.float32))
    assert any("stores 1 constants sparse" in note for note in source.notes)


def test_a_damaged_sparse_constant_is_named() -> None:
    values = np.eye(5, 7, dtype=np.float32)
    tensor = sparse_tensor("w", values, "rows")
    assert tensor.data is not None
    short = replace(tensor, data=tensor.data[:-1])
    main = Subgraph("main", (Tensor("x", (5, 7), "float32"), short), (), (0,), (0,))
    with pytest.raises(TfqError, match="sparse tensor 'w': it stores 4 values and 5 positions"):
        flatbuffer.read(flatbuffer.write(Graph((main,))))
