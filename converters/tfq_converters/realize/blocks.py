"""Constants whose scales vary along more than one axis: as the blockwise kernels store them, and as float tensors."""

from dataclasses import replace

import numpy as np

from tfq_converters.graph import FloatArray, Options, Quantization, Tensor
from tfq_converters.graph_edit import dequantize, float_like
from tfq_converters.operators import PLAIN_MUL
from tfq_converters.quantized import WeightCodes
from tfq_converters.realize.builder import SubgraphBuilder, stored, varying_axes


def stored_blocks(tensor: Tensor, value: WeightCodes, block: int) -> Tensor:
    """Return a matrix [rows, inputs] with one scale per row and `block` inputs, as blockwise kernels read it.

    Inputs are filled up with zeros to whole blocks.
    """
    length = value.codes.shape[1]
    filled = -(-length // block) * block
    codes = np.pad(value.codes, ((0, 0), (0, filled - length)))
    quantization = Quantization(value.scale, value.zero_point, 0, block)
    return replace(
        tensor, shape=codes.shape, shape_signature=None, dtype=f"int{value.bits}", data=codes, quantization=quantization
    )


def dequantized(builder: SubgraphBuilder, tensor: int, value: WeightCodes | FloatArray) -> int:
    """Return the float tensor that an explicit DEQUANTIZE makes of the stored `value`; a float32 one needs none."""
    if isinstance(value, np.ndarray) and value.dtype == np.float32:
        return builder.weight(tensor, value)
    if isinstance(value, WeightCodes) and len(varying_axes(value)) > 1:
        return builder.once(value, "dequantized", lambda: _dequantized_blocks(builder, tensor, value))
    return builder.once(value, "dequantized", lambda: _dequantized(builder, tensor, value))


def _dequantized(builder: SubgraphBuilder, tensor: int, value: WeightCodes | FloatArray) -> int:
    start = builder.weight(tensor, value)
    result = builder.new(float_like(builder.tensors[tensor], "_dequantized"))
    builder.add(dequantize(builder.tensors[start], start, result))
    return result


def _dequantized_blocks(builder: SubgraphBuilder, tensor: int, value: WeightCodes) -> int:
    """Return the codes as [blocks, block] made float and scaled; RESHAPE, SLICE and TRANSPOSE into the weight."""
    source = builder.tensors[tensor]
    (axis,) = [axis for axis, size in enumerate(value.block) if size > 1] or [value.codes.ndim - 1]
    order = [*(a for a in range(value.codes.ndim) if a != axis), axis]
    block, length = value.block[axis], value.codes.shape[axis]
    filled = -(-length // block) * block
    codes = np.pad(value.codes.transpose(order), [(0, 0)] * (len(order) - 1) + [(0, filled - length)])
    scale = value.scale.transpose(order).reshape(-1, 1)
    zero_point = value.zero_point.transpose(order).reshape(-1, 1)
    rows = WeightCodes(codes.reshape(-1, block), scale, zero_point, value.bits, (1, block))

    def floats(suffix: str, shape: tuple[int, ...]) -> Tensor:
        return Tensor(f"{source.name}_{suffix}", shape, "float32")

    index = _scaled_rows(builder, source, rows)
    index = builder.reshape(index, floats("dequantized", codes.shape))
    if filled != length:
        index = _first(builder, index, floats("whole", (*codes.shape[:-1], length)))
    if axis != value.codes.ndim - 1:
        back = builder.constant(f"{source.name}_order", np.argsort(order).astype(np.int32))
        index = builder.step(
            "TRANSPOSE", (index, back), floats("in_place", source.shape), Options("TransposeOptions", {})
        )
    return index


def _scaled_rows(builder: SubgraphBuilder, source: Tensor, rows: WeightCodes) -> int:
    """Return the float values of `rows`, each of which has a scale of its own.

    Symmetric ones with float16 scales are a MUL of the codes and the scales: 2 bytes for each scale, where those of a
    tensor's quantization take 4, and 8 for each zero point.
    """
    half = rows.scale.astype(np.float16)
    flat = replace(source, shape=rows.codes.shape, shape_signature=None)
    result = replace(flat, name=f"{source.name}_blocks", dtype="float32", data=None, quantization=None)
    if rows.zero_point.any() or (half != rows.scale).any():
        stored_rows = stored(flat, rows)
        index = builder.new(result)
        builder.add(dequantize(stored_rows, builder.new(stored_rows), index))
        return index
    one = WeightCodes(rows.codes, np.ones((1, 1), np.float32), np.zeros((1, 1), np.int64), rows.bits, rows.codes.shape)
    codes = _made_float(builder, stored(flat, one), replace(result, name=f"{source.name}_codes"))
    held = Tensor(f"{source.name}_scales", half.shape, "float16", data=half)
    scales = _made_float(builder, held, float_like(held, "_dequantized"))
    return builder.step("MUL", (codes, scales), result, PLAIN_MUL)


def _made_float(builder: SubgraphBuilder, constant: Tensor, result: Tensor) -> int:
    index = builder.new(result)
    builder.add(dequantize(constant, builder.new(constant), index))
    return index


def _first(builder: SubgraphBuilder, index: int, result: Tensor) -> int:
    """Emit a SLICE from the beginning to the shape of `result`."""
    begin = builder.constant(f"{result.name}_begin", np.zeros(len(result.shape), np.int32))
    size = builder.constant(f"{result.name}_size", np.array(result.shape, np.int32))
    return builder.step("SLICE", (index, begin, size), result, Options("SliceOptions", {}))
