"""QUANTIZE puts values on codes, DEQUANTIZE gives the real values of codes; the two in a row fake-quantize."""

from dataclasses import replace

import numpy as np

from tfq_converters.graph import Op, Options, Quantization, Tensor
from tfq_converters.graph_edit.builder import GraphBuilder
from tfq_converters.quantized import ActivationEncoding


def encoded(tensor: Tensor, form: ActivationEncoding, suffix: str = "") -> Tensor:
    """Return `tensor` as one that holds integer codes."""
    quantization = Quantization(np.array([form.scale], np.float32), np.array([form.zero_point], np.int64))
    return replace(tensor, name=tensor.name + suffix, dtype=form.dtype, quantization=quantization)


def float_like(tensor: Tensor, suffix: str) -> Tensor:
    """Return a computed float tensor of the shape of `tensor`."""
    return replace(tensor, name=tensor.name + suffix, dtype="float32", data=None, quantization=None)


def quantize(tensor: Tensor, index: int, result: int) -> Op:
    """Return a QUANTIZE operator that writes `tensor`, at the version that its type needs."""
    version = 2 if tensor.dtype == "int16" else 1
    return Op("QUANTIZE", (index,), (result,), Options("QuantizeOptions", {}), version)


def dequantize(tensor: Tensor, index: int, result: int) -> Op:
    """Return a DEQUANTIZE operator that reads `tensor`, at the version that its type needs."""
    per_axis = tensor.quantization is not None and len(tensor.quantization.scale) > 1
    version = {"float16": 3, "int16": 3, "int4": 6, "int2": 7}.get(tensor.dtype, 5 if per_axis else 2)
    return Op("DEQUANTIZE", (index,), (result,), Options("DequantizeOptions", {}), version)


def fake_quantized(builder: GraphBuilder, t: int, form: ActivationEncoding) -> int:
    """Return the values of float tensor `t`, each rounded to what its code in `form` stands for."""
    codes = builder.new(encoded(replace(builder.tensors[t], data=None), form, "/codes"))
    builder.add(quantize(builder.tensors[codes], t, codes))
    rounded = builder.new(float_like(builder.tensors[t], "/rounded"))
    builder.add(dequantize(builder.tensors[codes], codes, rounded))
    return rounded
