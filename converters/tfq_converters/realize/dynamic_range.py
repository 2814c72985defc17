"""Weights in integers, activations float in the file and quantized on the fly by the kernel."""

from dataclasses import replace

from tfq_converters.graph import Op, Options
from tfq_converters.quantized import OpEncoding, WeightCodes
from tfq_converters.realize.builder import FLOAT, SubgraphBuilder

# (operator, weight bits, several scales) -> version that the registered kernels ask for
VERSIONS: dict[tuple[str, int, bool], int] = {
    ("FULLY_CONNECTED", 8, False): 9,
    ("FULLY_CONNECTED", 8, True): 12,
    ("FULLY_CONNECTED", 4, False): 13,
    ("FULLY_CONNECTED", 4, True): 13,
    ("FULLY_CONNECTED", 2, False): 14,
    ("FULLY_CONNECTED", 2, True): 14,
    ("CONV_2D", 8, False): 2,
    ("CONV_2D", 8, True): 5,
    ("CONV_2D", 4, True): 7,
    ("CONV_2D", 4, False): 7,
    ("DEPTHWISE_CONV_2D", 8, True): 6,
    ("TRANSPOSE_CONV", 8, True): 4,
    ("TRANSPOSE_CONV", 8, False): 4,
    ("UNIDIRECTIONAL_SEQUENCE_LSTM", 8, False): 2,
    ("BATCH_MATMUL", 8, True): 3,
    ("BATCH_MATMUL", 8, False): 3,
}


def dynamic_range(builder: SubgraphBuilder, op: Op, encoding: OpEncoding) -> None:
    """Add `op` over its quantized weights; inputs, bias and outputs are float."""
    inputs = [
        builder.weight(tensor, encoding.weights[slot]) if slot in encoding.weights else builder.value(tensor, FLOAT)
        for slot, tensor in enumerate(op.inputs)
    ]
    value = next(value for value in encoding.weights.values() if isinstance(value, WeightCodes))
    one = VERSIONS.get((op.code, value.bits, value.scale.size > 1))  # None: a layer of a single channel
    version = max(op.version, one or VERSIONS[op.code, value.bits, True])
    outputs = tuple(builder.output(tensor, FLOAT) for tensor in op.outputs)
    builder.add(replace(op, inputs=tuple(inputs), outputs=outputs, version=version, options=dynamic_options(op)))


def dynamic_options(op: Op) -> Options | None:
    """Set FULLY_CONNECTED to asymmetric input quantization, which XNNPACK does whatever the option says."""
    if op.code != "FULLY_CONNECTED" or op.options is None:
        return op.options
    return replace(op.options, values={**op.options.values, "asymmetricQuantizeInputs": True})
