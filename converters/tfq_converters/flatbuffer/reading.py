"""Bytes or a path -> Graph."""

import ctypes
import mmap
import os
import struct
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import QuantizationDetails

from tfq_converters.errors import TfqError
from tfq_converters.flatbuffer import packing
from tfq_converters.flatbuffer.names import IDENTIFIER, OPERATORS, TYPES
from tfq_converters.flatbuffer.sparse import dense
from tfq_converters.graph import NUMPY_TYPES, AnyArray, Graph, Op, Options, Quantization, Signature, Subgraph, Tensor

_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None  # a function of glibc
_MAPPED: WeakSet[mmap.mmap] = WeakSet()  # files whose constants are views into them
Views = dict[tuple[int, str, tuple[int, ...]], AnyArray]  # (buffer, type, shape) -> a view that tensors share
_TENSOR_FIELDS = {
    *("shape", "type", "buffer", "name", "quantization", "isVariable", "shapeSignature", "hasRank", "sparsity"),
}


def read(source: bytes | str | os.PathLike[str]) -> Graph:
    """Read a `.tflite` file. Sparse constants are read as dense ones, and DENSIFY, which unpacks them, is left out.

    Args:
        source: the bytes of the file, or its path.

    Raises:
        TfqError: the file does not exist, is not TFLite, or is truncated.
    """
    where, content = _open(source)
    if len(content) < 8 or bytes(content[4:8]) != IDENTIFIER:
        raise TfqError(f"{where} is not a TFLite file (no {IDENTIFIER.decode()} identifier at byte 4)")
    try:
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        return _graph(model, np.frombuffer(content, np.uint8))
    except TfqError as error:
        raise TfqError(f"{where}: {error}") from error
    except (struct.error, IndexError, ValueError, TypeError, AttributeError, UnicodeDecodeError, KeyError) as error:
        raise TfqError(f"{where} is truncated or damaged: {error}") from error


def _open(source: bytes | str | os.PathLike[str]) -> tuple[str, Any]:
    if isinstance(source, bytes | bytearray | memoryview):
        return "the content given", bytes(source) if isinstance(source, bytearray) else source
    path = Path(source)
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise TfqError(f"{path} is empty")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            _MAPPED.add(mapped)
            return str(path), mapped
    except OSError as error:
        raise TfqError(f"{path} cannot be read: {error.strerror}") from error


def forget_pages(trim: bool = False) -> None:
    """Let the system take back the memory of mapped files; what is needed again is read again.

    Args:
        trim: and what the allocator holds back of freed arrays, which costs some time when memory is asked for again.
    """
    if hasattr(mmap, "MADV_DONTNEED"):
        for mapped in _MAPPED:
            mapped.madvise(mmap.MADV_DONTNEED)
    if trim and _TRIM is not None:
        _TRIM(0)


def _graph(model: Any, content: AnyArray) -> Graph:
    buffers = [_buffer(buffer, content) for buffer in model.buffers or []]
    views: Views = {}
    subgraphs = tuple(_subgraph(subgraph, model.operatorCodes, buffers, views) for subgraph in model.subgraphs)
    return Graph(
        subgraphs=subgraphs,
        signatures=tuple(_signature(signature) for signature in model.signatureDefs or []),
        metadata={_text(entry.name): _metadata(buffers[entry.buffer]) for entry in model.metadata or []},
        description=_text(model.description),
        sparse=sum(tensor.sparsity is not None for subgraph in model.subgraphs for tensor in subgraph.tensors or []),
    )


def _metadata(buffer: AnyArray | None) -> bytes:
    return b"" if buffer is None else buffer.tobytes()


def _buffer(buffer: Any, content: AnyArray) -> AnyArray | None:
    if buffer.offset > 1:
        if buffer.offset + buffer.size > len(content):
            raise TfqError(f"truncated: a constant ends at byte {buffer.offset + buffer.size} of {len(content)}")
        return content[buffer.offset : buffer.offset + buffer.size]
    if buffer.data is None or len(buffer.data) == 0:
        return None
    return np.asarray(buffer.data, np.uint8)


def _subgraph(subgraph: Any, codes: list[Any], buffers: list[Any], views: Views) -> Subgraph:
    packed = subgraph.tensors or []
    ops = tuple(_op(op, codes[op.opcodeIndex]) for op in _sequence(subgraph.operators))
    inputs = _ints(subgraph.inputs)
    tensors = _with_blocks(packed, [_tensor(tensor, buffers, views) for tensor in packed])
    ops, tensors = _without_densify(ops, tensors)
    computed = {*inputs, *(t for op in ops for t in (*op.outputs, *op.intermediates))}
    return Subgraph(
        name=_text(subgraph.name),
        tensors=tuple(tensor if t in computed else _with_no_elements(tensor) for t, tensor in enumerate(tensors)),
        ops=ops,
        inputs=inputs,
        outputs=_ints(subgraph.outputs),
    )


def _without_densify(ops: tuple[Op, ...], tensors: list[Tensor]) -> tuple[tuple[Op, ...], list[Tensor]]:
    """Remove the operators that unpack sparse constants, which are unpacked already."""
    unpacking = [op for op in ops if op.code == "DENSIFY" and tensors[op.inputs[0]].is_constant]
    if not unpacking:
        return ops, tensors
    result, gone = list(tensors), {id(op) for op in unpacking}
    for op in unpacking:
        result[op.outputs[0]] = replace(result[op.outputs[0]], data=tensors[op.inputs[0]].data)
    kept = tuple(op for op in ops if id(op) not in gone)
    for t in {op.inputs[0] for op in unpacking} - {t for op in kept for t in op.inputs}:
        result[t] = replace(result[t], data=None)
    return kept, result


def _with_blocks(packed: Sequence[Any], tensors: list[Tensor]) -> list[Tensor]:
    """Return `tensors` with their blockwise scales, which the file holds in further tensors, now dropped."""
    scales = set()
    result = list(tensors)
    for index, tensor in enumerate(packed):
        quantization = tensor.quantization
        if quantization is None or quantization.detailsType != QuantizationDetails.BlockwiseQuantization:
            continue
        details = quantization.details
        stored = tensors[details.scales].data
        if stored is None:
            raise TfqError(f"tensor {tensors[index].name!r}: the scales of its blocks are not a constant")
        zeros = tensors[details.zeroPoints].data if details.zeroPoints > 0 else None
        scale = stored.astype(np.float32).reshape(tensors[index].shape[quantization.quantizedDimension], -1)
        zero_point = np.zeros(scale.shape, np.int64) if zeros is None else zeros.astype(np.int64)
        blocks = Quantization(scale, zero_point, int(quantization.quantizedDimension), int(details.blockSize))
        result[index] = replace(tensors[index], quantization=blocks)
        scales.add(details.scales)
    while result and len(result) - 1 in scales:
        result.pop()
    return result


def _with_no_elements(tensor: Tensor) -> Tensor:
    """Return a constant without elements, which the file cannot tell from a tensor without data."""
    if tensor.data is not None or 0 not in tensor.shape or tensor.is_variable or tensor.dtype not in NUMPY_TYPES:
        return tensor
    return replace(tensor, data=np.zeros(tensor.shape, NUMPY_TYPES[tensor.dtype]))


def _tensor(tensor: Any, buffers: list[Any], views: Views) -> Tensor:
    dtype, shape = TYPES[tensor.type], _ints(tensor.shape)
    raw = buffers[tensor.buffer]
    data = None
    if raw is not None:
        key = (tensor.buffer, dtype, shape)
        if tensor.sparsity is not None:
            data = _dense(raw, dtype, shape, tensor)
        elif key not in views:
            views[key] = _typed(raw, dtype, shape, _text(tensor.name))
        data = views[key] if data is None else data
    extra = {k: _plain(v) for k, v in vars(tensor).items() if k not in _TENSOR_FIELDS and v not in (None, 0)}
    return Tensor(
        name=_text(tensor.name),
        shape=shape,
        dtype=dtype,
        shape_signature=None if tensor.shapeSignature is None else _ints(tensor.shapeSignature),
        has_rank=bool(tensor.hasRank) or bool(shape),
        data=data,
        quantization=_quantization(tensor.quantization),
        is_variable=bool(tensor.isVariable),
        extra=extra,
    )


def _typed(raw: AnyArray, dtype: str, shape: tuple[int, ...], name: str) -> AnyArray:
    if dtype in packing.PACKED_BITS:
        return packing.unpack(raw, packing.PACKED_BITS[dtype], shape)
    if dtype not in NUMPY_TYPES:
        return raw
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(NUMPY_TYPES[dtype]).itemsize
    if len(raw) != size:
        raise TfqError(f"tensor {name!r} of shape {shape} needs {size} bytes, its constant has {len(raw)}")
    return (
        raw.view(NUMPY_TYPES[dtype]).reshape(shape) if raw.flags.c_contiguous else raw.copy().view(NUMPY_TYPES[dtype])
    )


def _dense(raw: AnyArray, dtype: str, shape: tuple[int, ...], tensor: Any) -> AnyArray:
    """Return a sparse constant, unpacked."""
    name = _text(tensor.name)
    if dtype not in NUMPY_TYPES or dtype in packing.PACKED_BITS:
        raise TfqError(f"tensor {name!r} is sparse, of type {dtype}, which cannot be unpacked")
    try:
        return dense(np.ascontiguousarray(raw).view(NUMPY_TYPES[dtype]), shape, tensor.sparsity)
    except TfqError as error:
        raise TfqError(f"sparse tensor {name!r}: {error}") from error


def _quantization(quantization: Any) -> Quantization | None:
    if quantization is None or quantization.scale is None or len(quantization.scale) == 0:
        return None
    scale = np.array(quantization.scale, np.float32)
    zero_point = np.zeros(len(scale), np.int64) if quantization.zeroPoint is None else quantization.zeroPoint
    return Quantization(scale, np.array(zero_point, np.int64), int(quantization.quantizedDimension))


def _op(op: Any, code: Any) -> Op:
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    options = None
    for value, kind in ((op.builtinOptions, op.builtinOptionsType), (op.builtinOptions2, op.builtinOptions2Type)):
        if value is not None and kind:
            options = Options(type(value).__name__.removesuffix("T"), _fields(value))
    return Op(
        code=OPERATORS[number],
        inputs=_ints(op.inputs),
        outputs=_ints(op.outputs),
        options=options,
        version=code.version,
        custom_code=_text(code.customCode),
        custom_options=b"" if op.customOptions is None else bytes(np.asarray(op.customOptions, np.uint8)),
        intermediates=_ints(op.intermediates),
        mutating_inputs=tuple(bool(flag) for flag in _sequence(op.mutatingVariableInputs)),
    )


def _signature(signature: Any) -> Signature:
    def pairs(entries: list[Any] | None) -> tuple[tuple[str, int], ...]:
        return tuple((_text(entry.name), int(entry.tensorIndex)) for entry in entries or [])

    return Signature(
        _text(signature.signatureKey), signature.subgraphIndex, pairs(signature.inputs), pairs(signature.outputs)
    )


def _fields(table: Any) -> dict[str, Any]:
    return {name: _plain(value) for name, value in vars(table).items()}


def _plain(value: Any) -> Any:
    """Return a schema object as (its class name, its fields); everything else unchanged."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return (type(value).__name__, _fields(value)) if type(value).__module__ == schema.__name__ else value


def _sequence(values: Any) -> Any:
    return () if values is None else values


def _ints(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in _sequence(values))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
