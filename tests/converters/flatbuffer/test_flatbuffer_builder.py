"""The builder against the library's own: the same model in both says the same."""

from collections.abc import Iterator
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tfq_converters.flatbuffer.builder import Builder


def _model(rng: np.random.Generator) -> Any:
    """Fields of every width, in several orders, present and absent; vectors of every width; tables of tables."""
    model = schema.ModelT()
    model.version, model.description = 3, "é"
    model.buffers, model.operatorCodes = [], []
    for n in range(4):
        buffer = schema.BufferT()
        buffer.data = rng.integers(0, 255, 5 * n).astype(np.uint8) if n % 2 else None
        buffer.offset, buffer.size = int(rng.integers(2**40)), n
        model.buffers.append(buffer)
        code = schema.OperatorCodeT()
        code.builtinCode, code.version, code.customCode = 127 + n, n, "custom" if n == 2 else None
        model.operatorCodes.append(code)
    main = schema.SubGraphT()
    main.name, main.tensors, main.operators = (
        "main",
        [_tensor(rng, n) for n in range(5)],
        [_resize(n) for n in range(3)],
    )
    main.inputs, main.outputs = np.array([0], np.int32), [4, 3]
    model.subgraphs = [main]
    return model


def _tensor(rng: np.random.Generator, n: int) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape = f"t{n % 3}", np.arange(n, dtype=np.int32)
    tensor.type, tensor.buffer, tensor.isVariable, tensor.hasRank = n, 7 * n, n == 1, n > 1
    if n > 2:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = rng.normal(size=n).astype(np.float32)
        tensor.quantization.zeroPoint = np.full(n, 2**40, np.int64)
        tensor.quantization.quantizedDimension = n
    return tensor


def _resize(n: int) -> Any:
    op = schema.OperatorT()
    op.opcodeIndex, op.mutatingVariableInputs = n, np.array([True, False, True])
    op.builtinOptionsType = schema.BuiltinOptions.LocalResponseNormalizationOptions
    op.builtinOptions = schema.LocalResponseNormalizationOptionsT()
    op.builtinOptions.radius, op.builtinOptions.bias, op.builtinOptions.alpha = n, 0.5 * n, -1.25
    return op


def _said(value: Any) -> Any:
    if isinstance(value, list):
        return [_said(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return {k: _said(v) for k, v in vars(value).items()} if type(value).__module__ == schema.__name__ else value


@pytest.mark.parametrize("seed", range(3))
def test_says_what_the_library_says(seed: int) -> None:
    found = []
    for kind in (flatbuffers.Builder, Builder):
        builder = kind(1)  # it has to grow
        builder.Finish(_model(np.random.default_rng(seed)).Pack(builder), b"TFL3")
        content = bytes(builder.Output())
        assert content[4:8] == b"TFL3"
        found.append((_said(schema.ModelT.InitFromPackedBuf(content, 0)), len(content)))
    (expected, longer), (mine, length) = found
    assert mine == expected
    assert length < longer  # equal names and vectors are stored once


def _fields(content: bytes) -> Iterator[int]:
    """Places of the 64-bit fields of the buffers."""
    model = schema.Model.GetRootAs(content, 0)
    for n in range(model.BuffersLength()):
        table = model.Buffers(n)._tab
        yield from (table.Pos + table.Offset(slot) for slot in (6, 8) if table.Offset(slot))


def test_fields_are_aligned_to_their_width() -> None:
    """The runtimes verify this, and refuse files where it does not hold."""
    builder = Builder(1)
    builder.Finish(_model(np.random.default_rng(0)).Pack(builder), b"TFL3")
    places = list(_fields(bytes(builder.Output())))
    assert len(places) == 7
    assert not any(place % 8 for place in places)
