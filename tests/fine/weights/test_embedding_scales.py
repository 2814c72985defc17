"""Tables with many rows hold their scales aside, without a zero point for each."""

import keras
import numpy as np
import pytest

import tfq_fine as tfq
from support.wrapped_models import file_outputs, sqnr_db
from tfq_converters.flatbuffer.reading import read
from tfq_converters.flatbuffer.writing import write
from tfq_converters.graph import Graph, Op, Options, Subgraph, Tensor
from tfq_converters.kernels import DEFAULT_RUNTIMES
from tfq_converters.realize import embedding
from tfq_converters.runtime.runner import Kernels, Runner
from tfq_fine.api import quantize

ROWS, DEPTH = 4001, 45


def table_model(rows: int = ROWS) -> Graph:
    rng = np.random.default_rng(0)
    table = (rng.normal(size=(rows, DEPTH)) * 10 ** rng.uniform(-2, 1, (rows, 1))).astype(np.float32)
    tensors = (
        Tensor("ids", (1, 7), "int32"),
        Tensor("table", table.shape, "float32", data=table),
        Tensor("rows", (1, 7, DEPTH), "float32"),
    )
    op = Op("GATHER", (1, 0), (2,), Options("GatherOptions", {"axis": 0, "batchDims": 0}))
    return Graph((Subgraph("main", tensors, (op,), (0,), (2,)),))


def content(recipe: str, graph: Graph) -> bytes:
    data = np.random.default_rng(1).integers(0, 50, (16, 7)).astype(np.int32)
    return quantize(write(graph), recipe, data=data, prefer="size", runtimes=DEFAULT_RUNTIMES).content


@pytest.mark.parametrize("recipe", ["dynamic_int8", "dynamic_int4", "weight_only_int8"])
def test_the_same_rows_in_fewer_bytes(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal bit for bit on every set of kernels; 8 bytes less for each row, but for what two operators take."""
    graph = table_model()
    made = content(recipe, graph)
    monkeypatch.setattr(embedding, "ASIDE_BYTES", 2**40)
    plain = content(recipe, graph)
    assert len(plain) - len(made) > 8 * ROWS - 1500
    ids = np.array([[0, 1, 17, ROWS - 1, 2500, 2500, 3]], np.int32)
    every: tuple[Kernels, ...] = ("default", "optimized", "reference")
    for kernels in every:
        np.testing.assert_array_equal(Runner(made, kernels).run([ids])[0], Runner(plain, kernels).run([ids])[0])


def test_few_rows_stay_one_lookup() -> None:
    codes = [op.code for op in read(content("dynamic_int8", table_model(101))).main.ops]
    assert codes.count("EMBEDDING_LOOKUP") == 1
    assert "MUL" not in codes


@pytest.mark.parametrize("recipe", ["dynamic_int8", "full_int8", "weight_only_int4"])
def test_simulate_looks_scales_up_too(recipe: str) -> None:
    ids = keras.Input((9,), dtype="int32")
    rows = keras.layers.Embedding(ROWS, DEPTH)(ids)
    model = keras.Model(ids, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling1D()(rows)))
    data = np.random.default_rng(0).integers(0, ROWS, (24, 9)).astype(np.int32)
    result = tfq.quantize(model, recipe, data=data, prefer="size")
    assert sqnr_db(tfq.simulate(model, result).predict(data, verbose=0), file_outputs(result, data)) > 60
