"""Graph -> bytes. Equal constants, vectors and names are stored once, which the format allows."""

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfq_converters.flatbuffer import packing
from tfq_converters.flatbuffer.builder import Builder
from tfq_converters.flatbuffer.names import IDENTIFIER, OPERATOR_CODES, TYPE_CODES
from tfq_converters.graph import AnyArray, Graph, IdentityCache, Op, Signature, Subgraph, Tensor

ALIGNMENT = 16  # `force_align` of Buffer.data in the schema, which the object API ignores
LARGE_ALIGNMENT = 64
_SUBGRAPH_OUTPUTS, _MODEL_SIGNATURES = 8, 18  # vtable slots: 4 + 2 * the field's number in the schema
FLATBUFFER_LIMIT = 2**31 - 2**20  # beyond this the constants go after the flatbuffer


def write(graph: Graph) -> bytes:
    """Return the bytes of the `.tflite` file that says `graph`. Equal constants are stored once."""
    return b"".join(pieces(graph))


def pieces(graph: Graph, constants_last: bool = False) -> Iterator[bytes | memoryview]:
    """Yield the file in pieces, in order; no constant is copied.

    Args:
        graph: what the file says.
        constants_last: put the constants after the flatbuffer in any case, as in files beyond 2 GB. Files that are
            handed over keep them inside, as every runtime expects.
    """
    buffers = _Buffers()
    model = _model(graph, buffers)
    if buffers.nbytes < FLATBUFFER_LIMIT and not constants_last:
        model.buffers = [_Buffer(array) for array in buffers.arrays]
        yield from _with_constants(_packed(model, buffers.nbytes))
        return
    model.buffers = [_Buffer(None, placeholder=array is not None) for array in buffers.arrays]
    packer = _packed(model, 0)
    header = bytearray(packer.Bytes[packer.Head() :])
    packed = schema.Model.GetRootAs(header, 0)
    end = len(header)
    layout: list[tuple[int, AnyArray]] = []
    for index, array in enumerate(buffers.arrays):
        if array is not None:
            start = -(-end // LARGE_ALIGNMENT) * LARGE_ALIGNMENT
            _patch(header, packed.Buffers(index), start, array.nbytes)
            layout.append((start, array))
            end = start + array.nbytes
    yield bytes(header)
    position = len(header)
    for start, array in layout:
        yield bytes(start - position)
        yield array.data
        position = start + array.nbytes


def with_outputs(content: bytes, outputs: Sequence[int]) -> Iterator[bytes | memoryview]:
    """Yield the file `content` with other outputs of its main subgraph and without signatures, in pieces.

    The new list is appended and pointed to, which costs nothing next to packing the file anew.
    """
    model = schema.Model.GetRootAs(content, 0)
    subgraph = model.Subgraphs(0)
    end = -(-len(content) // 4) * 4
    at = subgraph._tab.Pos + subgraph._tab.Offset(_SUBGRAPH_OUTPUTS)
    patches = {at: end - at}
    signatures = model._tab.Offset(_MODEL_SIGNATURES)
    if signatures:
        vector = model._tab.Pos + signatures
        patches[vector + struct.unpack_from("<I", content, vector)[0]] = 0  # a list of none
    whole, position = memoryview(content), 0
    for start, value in sorted(patches.items()):
        yield whole[position:start]
        yield struct.pack("<I", value)
        position = start + 4
    yield whole[position:]
    yield bytes(end - len(content)) + struct.pack(f"<I{len(outputs)}i", len(outputs), *outputs)


def _patch(header: bytearray, table: Any, offset: int, size: int) -> None:
    """Write `offset` and `size` of a packed Buffer (vtable slots 6 and 8) in place."""
    for slot, value in ((6, offset), (8, size)):
        struct.pack_into("<Q", header, table._tab.Pos + table._tab.Offset(slot), value)


class _Buffer(schema.BufferT):  # type: ignore[misc, unused-ignore]
    """A Buffer whose data is aligned as the schema asks, or a placeholder for data after the flatbuffer."""

    def __init__(self, array: AnyArray | None, placeholder: bool = False):
        super().__init__()
        self.array, self.offset, self.size = array, int(placeholder), int(placeholder)

    def Pack(self, builder: Builder) -> int:  # noqa: N802 - the object API's name
        data = None if self.array is None else _aligned_vector(builder, self.array)
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        schema.BufferAddOffset(builder, self.offset)
        schema.BufferAddSize(builder, self.size)
        result: int = schema.BufferEnd(builder)
        return result


def _aligned_vector(builder: Builder, array: AnyArray) -> int:
    builder.StartVector(1, array.nbytes, ALIGNMENT)
    builder.left_out.append((builder.Offset(), array))
    builder.head -= array.nbytes
    result: int = builder.EndVector()
    return result


class _Buffers:
    """The constants of a file, each stored once. Buffer 0 is the empty one, by convention of the format."""

    def __init__(self) -> None:
        self.arrays: list[AnyArray | None] = [None]
        self.nbytes = 0
        self._by_content: dict[tuple[int, int], list[int]] = {}
        self._by_identity = IdentityCache()

    def add(self, data: AnyArray | None, dtype: str) -> int:
        if data is None:
            return 0
        return self._by_identity.once(lambda: self._add_bytes(_raw(data, dtype)), data, key=dtype)

    def _add_bytes(self, raw: AnyArray) -> int:
        same = self._by_content.setdefault((raw.nbytes, hash(raw[:4096].tobytes())), [])
        for index in same:
            array = self.arrays[index]
            if array is not None and np.array_equal(array, raw):
                return index
        self.arrays.append(raw)
        self.nbytes += raw.nbytes + ALIGNMENT
        same.append(len(self.arrays) - 1)
        return same[-1]


def _raw(data: AnyArray, dtype: str) -> AnyArray:
    if dtype in packing.PACKED_BITS:
        return packing.pack(data, packing.PACKED_BITS[dtype])
    return np.ascontiguousarray(data).reshape(-1).view(np.uint8)


def _model(graph: Graph, buffers: _Buffers) -> Any:
    model = schema.ModelT()
    model.version = 3
    model.description = graph.description
    model.operatorCodes = []
    codes: dict[tuple[str, str, int], int] = {}
    model.subgraphs = [_pack_subgraph(subgraph, model.operatorCodes, codes, buffers) for subgraph in graph.subgraphs]
    model.signatureDefs = [_pack_signature(signature) for signature in graph.signatures]
    model.metadata = []
    for name, content in graph.metadata.items():
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, buffers.add(np.frombuffer(content, np.uint8) if content else None, "uint8")
        model.metadata.append(entry)
    return model


def _packed(model: Any, constants: int) -> Builder:
    builder = Builder(constants + 2**20)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return builder


def _with_constants(packed: Builder) -> Iterator[memoryview]:
    """Yield the packed pieces, with the constants in the places that were kept for them."""
    whole, position = memoryview(packed.Bytes), packed.Head()
    for offset, array in reversed(packed.left_out):  # it was packed from its end
        start = len(whole) - offset - array.nbytes
        yield whole[position:start]
        yield array.data
        position = start + array.nbytes
    yield whole[position:]


def _pack_subgraph(
    subgraph: Subgraph, table: list[Any], codes: dict[tuple[str, str, int], int], buffers: _Buffers
) -> Any:
    packed = schema.SubGraphT()
    packed.name = subgraph.name
    packed.inputs, packed.outputs = np.array(subgraph.inputs, np.int32), np.array(subgraph.outputs, np.int32)
    tensors = list(subgraph.tensors)
    packed.tensors = [_pack_tensor(tensor, tensors, buffers) for tensor in subgraph.tensors]
    packed.tensors += [_pack_tensor(tensor, tensors, buffers) for tensor in tensors[len(subgraph.tensors) :]]
    packed.operators = [_pack_op(op, table, codes) for op in subgraph.ops]
    return packed


def _pack_tensor(tensor: Tensor, tensors: list[Tensor], buffers: _Buffers) -> Any:
    """Pack one tensor; the scales of a blockwise one become a further tensor at the end of `tensors`."""
    packed = schema.TensorT()
    packed.name, packed.type, packed.isVariable = tensor.name, TYPE_CODES[tensor.dtype], tensor.is_variable
    packed.shape, packed.hasRank = np.array(tensor.shape, np.int32), tensor.has_rank
    if tensor.shape_signature is not None:
        packed.shapeSignature = np.array(tensor.shape_signature, np.int32)
    packed.buffer = buffers.add(tensor.data, tensor.dtype)
    for name, value in tensor.extra.items():
        setattr(packed, name, _schema_value(value))
    if tensor.quantization is not None:
        packed.quantization = _pack_quantization(tensor, tensors)
    return packed


def _pack_quantization(tensor: Tensor, tensors: list[Tensor]) -> Any:
    quantization = tensor.affine
    packed = schema.QuantizationParametersT()
    packed.quantizedDimension = quantization.axis
    if not quantization.block_size:
        packed.scale = quantization.scale.astype(np.float32)
        packed.zeroPoint = quantization.zero_point.astype(np.int64)
        return packed
    scales = quantization.scale.astype(np.float16)
    packed.detailsType = schema.QuantizationDetails.BlockwiseQuantization
    packed.details = schema.BlockwiseQuantizationT()
    packed.details.scales, packed.details.zeroPoints = len(tensors), -1
    packed.details.blockSize = quantization.block_size
    tensors.append(Tensor(f"{tensor.name}_scales", scales.shape, "float16", data=scales))
    return packed


def _pack_op(op: Op, table: list[Any], codes: dict[tuple[str, str, int], int]) -> Any:
    packed = schema.OperatorT()
    packed.opcodeIndex = _operator_code(op, table, codes)
    packed.inputs, packed.outputs = np.array(op.inputs, np.int32), np.array(op.outputs, np.int32)
    if op.intermediates:
        packed.intermediates = np.array(op.intermediates, np.int32)
    if op.mutating_inputs:
        packed.mutatingVariableInputs = np.array(op.mutating_inputs, bool)
    if op.custom_options:
        packed.customOptions = np.frombuffer(op.custom_options, np.uint8)
    if op.options is not None:
        value = _schema_value((op.options.kind + "T", op.options.values))
        if hasattr(schema.BuiltinOptions, op.options.kind):
            packed.builtinOptionsType, packed.builtinOptions = getattr(schema.BuiltinOptions, op.options.kind), value
        else:
            packed.builtinOptions2Type, packed.builtinOptions2 = getattr(schema.BuiltinOptions2, op.options.kind), value
    return packed


def _operator_code(op: Op, table: list[Any], codes: dict[tuple[str, str, int], int]) -> int:
    key = (op.code, op.custom_code, op.version)
    if key not in codes:
        codes[key] = len(table)
        entry = schema.OperatorCodeT()
        entry.builtinCode, entry.version = OPERATOR_CODES[op.code], op.version
        entry.deprecatedBuiltinCode = min(entry.builtinCode, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
        entry.customCode = op.custom_code or None
        table.append(entry)
    return codes[key]


def _schema_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_schema_value(item) for item in value]
    if not (isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)):
        return value
    name, fields = value
    table = getattr(schema, name)()
    for field, content in fields.items():
        setattr(table, field, _schema_value(content))
    return table


def _pack_signature(signature: Signature) -> Any:
    def entries(pairs: tuple[tuple[str, int], ...]) -> list[Any]:
        packed = []
        for name, index in pairs:
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name, index
            packed.append(entry)
        return packed

    packed = schema.SignatureDefT()
    packed.signatureKey, packed.subgraphIndex = signature.key, signature.subgraph
    packed.inputs, packed.outputs = entries(signature.inputs), entries(signature.outputs)
    return packed
