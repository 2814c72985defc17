"""Weights and activations in integers, the operator's integer kernel computes."""

import math
from dataclasses import replace

import numpy as np

from tfq_converters.graph import ABSENT, Op, Options, Quantization, Tensor
from tfq_converters.operators import OPS, facts_of
from tfq_converters.quantized import OpEncoding, WeightCodes
from tfq_converters.realize.builder import FLOAT, SubgraphBuilder
from tfq_converters.realize.rewrites import REWRITES

# (operator, weight bits) -> version, where the weight type decides
WEIGHT_VERSIONS: dict[tuple[str, int], int] = {
    ("FULLY_CONNECTED", 4): 10,
    ("FULLY_CONNECTED", 2): 14,
    ("CONV_2D", 4): 7,
    ("DEPTHWISE_CONV_2D", 4): 6,  # the converter writes 7, which the reference kernels do not register
}


def full_integer(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> None:
    """Add `op` on integer inputs and outputs, as `encoding` says for each slot; other slots stay unchanged."""
    rewrite = REWRITES.get(op.code)
    if rewrite is not None and rewrite(builder, op, encoding):
        return
    inputs = [
        builder.weight(tensor, encoding.weights[slot])
        if slot in encoding.weights
        else builder.value(tensor, encoding.inputs.get(slot, FLOAT))
        for slot, tensor in enumerate(op.inputs)
    ]
    if op.code == "CONV_2D" and (len(inputs) < 3 or inputs[2] == ABSENT):
        inputs[2:] = [_zero_bias(builder, op, encoding)]
    outputs = [builder.output(tensor, encoding.outputs.get(slot, FLOAT)) for slot, tensor in enumerate(op.outputs)]
    builder.add(
        replace(
            op,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            version=_version(op, encoding),
            options=_options(op, encoding),
        )
    )


def weight_version(code: str, bits: int) -> int:
    """Return the least version of `code` that takes weights of `bits`."""
    return WEIGHT_VERSIONS.get((code, bits), 1)


def _zero_bias(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> int:
    """Add the bias that integer kernels of CONV_2D need and float ones do without."""
    weight = encoding.weights[1]
    assert isinstance(weight, WeightCodes)
    channels, bits = weight.codes.shape[0], 64 if _is_int16(encoding) else 32
    scales = np.float32(encoding.inputs[0].scale) * weight.scales_along(0)
    quantization = Quantization(scales, np.zeros(len(scales), np.int64))
    name = f"{builder.source.tensors[op.outputs[0]].name}/zero_bias"
    data = np.zeros(channels, f"int{bits}")
    return builder.new(Tensor(name, data.shape, data.dtype.name, data=data, quantization=quantization))


def _is_int16(encoding: OpEncoding) -> bool:
    return any(form.dtype == "int16" for form in (*encoding.inputs.values(), *encoding.outputs.values()))


def _version(op: Op, encoding: OpEncoding) -> int:
    row = OPS[op.code]
    needed = row.version("int16" if _is_int16(encoding) else "int8")
    slot = facts_of(op.code).weight
    if slot is not None:
        weight = encoding.weights[slot]
        assert isinstance(weight, WeightCodes)
        needed = max(needed, weight_version(op.code, weight.bits))
    if op.code == "MUL" and _product_scale(encoding) >= encoding.outputs[0].scale:
        needed = max(needed, 3)  # the first kernels whose rescaling may enlarge have it
    return max(op.version, needed)


def _product_scale(encoding: OpEncoding) -> float:
    constants = [
        float(value.scale.reshape(-1)[0]) for value in encoding.weights.values() if isinstance(value, WeightCodes)
    ]
    return math.prod([form.scale for form in encoding.inputs.values()] + constants)


def _options(op: Op, encoding: OpEncoding) -> Options | None:
    if op.options is None or not _is_int16(encoding) or not facts_of(op.code).adds:
        return op.options
    return replace(op.options, values={**op.options.values, "potScaleInt16": False})
