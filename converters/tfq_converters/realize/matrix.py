"""Linear operators as FULLY_CONNECTED: 1x1 convolutions, and blockwise weights.

FULLY_CONNECTED on a 4-D input (keep_num_dims) is a 1x1 convolution; it has fast kernels for 4 and 2 bits, CONV_2D has
none.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tfq_converters.graph import ABSENT, Op, Options, Tensor
from tfq_converters.graph_edit import encoded
from tfq_converters.operators import ACTIVATIONS, FUSED, Activation, fused_activation, without_activation
from tfq_converters.quantized import OpEncoding, WeightCodes
from tfq_converters.realize.blocks import stored_blocks
from tfq_converters.realize.builder import FLOAT, SubgraphBuilder
from tfq_converters.realize.dynamic_range import dynamic_options

# The portable blockwise kernel is silently wrong with a fused activation: an operator of its own comes after it.
ACTIVATION_OPS: Mapping[Activation, str] = {name: name for name in ACTIVATIONS if name not in ("NONE", "SIGN_BIT")}
BLOCKWISE_VERSION = 13  # the version of FULLY_CONNECTED whose kernels first know blockwise int4


def as_fully_connected(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> tuple[Op, OpEncoding]:
    """Return the 1x1 convolution `op` as FULLY_CONNECTED over the same values; anything else unchanged."""
    if op.code != "CONV_2D":
        return op, encoding
    codes = encoding.weights[1]
    assert isinstance(codes, WeightCodes)
    matrix = builder.matrix(codes)
    weight = builder.once(codes, "matrix", lambda: builder.new(_matrix_tensor(builder.tensors[op.inputs[1]])))
    source = _strided(builder, op, encoding)
    options = Options(
        "FullyConnectedOptions",
        {
            FUSED: op.option(FUSED),
            "weightsFormat": 0,
            "keepNumDims": True,
            "asymmetricQuantizeInputs": False,
            "quantizedBiasType": 0,
        },
    )
    bias = op.inputs[2] if len(op.inputs) > 2 else ABSENT
    rewritten = replace(op, code="FULLY_CONNECTED", inputs=(source, weight, bias), options=options, version=5)
    return rewritten, replace(encoding, weights={**encoding.weights, 1: matrix})


def _matrix_tensor(weight: Tensor) -> Tensor:
    return replace(weight, shape=(weight.shape[0], weight.shape[3]), shape_signature=None)


def _strided(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> int:
    """Return the input at every stride-th pixel, which is all that a strided 1x1 convolution sees."""
    steps = (op.option("strideH"), op.option("strideW"))
    if steps == (1, 1):
        return op.inputs[0]
    form = encoding.read(0)
    source, target = builder.source.tensors[op.inputs[0]], builder.source.tensors[op.outputs[0]]
    shape = (*target.shape[:3], source.shape[3])
    unknown = None if target.shape_signature is None else (*target.dynamic_shape[:3], source.shape[3])
    pixels = Tensor(f"{target.name}/pixels", shape, "float32", unknown)
    if form is not FLOAT:
        pixels = encoded(pixels, form)
    zeros = builder.constant(f"{target.name}/begin", np.zeros(4, np.int32))
    strides = builder.constant(f"{target.name}/strides", np.array([1, *steps, 1], np.int32))
    masks = {"beginMask": 15, "endMask": 15, "ellipsisMask": 0, "newAxisMask": 0, "shrinkAxisMask": 0, "offset": False}
    inputs = (builder.value(op.inputs[0], form), zeros, zeros, strides)
    index = builder.step("STRIDED_SLICE", inputs, pixels, Options("StridedSliceOptions", masks), 2 if form else 1)
    builder.know(index, form)
    return index


def blockwise(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> None:
    """Add `op` as FULLY_CONNECTED over int4 blocks; activations are float and quantized on the fly."""
    op, encoding = as_fully_connected(builder, op, encoding)
    codes = encoding.weights[1]
    assert isinstance(codes, WeightCodes)
    block = codes.block[1]
    weight = builder.once(
        codes, "blockwise", lambda: builder.new(stored_blocks(builder.tensors[op.inputs[1]], codes, block))
    )
    source = builder.value(op.inputs[0], FLOAT)
    missing = -codes.codes.shape[1] % block
    if missing:
        source = _filled(builder, source, missing, builder.source.tensors[op.outputs[0]].name)
    bias = op.inputs[2] if len(op.inputs) > 2 else ABSENT
    bias = builder.weight(bias, encoding.weights[2]) if 2 in encoding.weights else builder.value(bias, FLOAT)
    fused = fused_activation(op)
    options = without_activation(replace(op, options=dynamic_options(op))).options
    target = builder.output(op.outputs[0], FLOAT)
    linear = target
    if fused != "NONE":
        plain = builder.source.tensors[op.outputs[0]]
        linear = builder.new(replace(plain, name=f"{plain.name}/linear"))
    version = max(op.version, BLOCKWISE_VERSION)
    builder.add(replace(op, inputs=(source, weight, bias), outputs=(linear,), options=options, version=version))
    if fused != "NONE":
        builder.add(Op(ACTIVATION_OPS[fused], (linear,), (target,)))


def _filled(builder: SubgraphBuilder, index: int, missing: int, name: str) -> int:
    """Return the last axis filled up with `missing` zeros."""
    source = builder.tensors[index]
    pads = np.zeros((len(source.shape), 2), np.int32)
    pads[-1, 1] = missing

    def wider(shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-1], shape[-1] + missing)

    unknown = None if source.shape_signature is None else wider(source.shape_signature)
    result = Tensor(f"{name}/filled", wider(source.shape), "float32", unknown)
    return builder.step("PAD", (index, builder.constant(f"{name}/pads", pads)), result, Options("PadOptions", {}))
