"""The part of the run check that no operator run alone can do: fused LSTMs, whose states are variables.

`lstm` follows them step by step. Not those in dynamic range: what they round on the fly goes into the next step, which
may be anything where inputs are large.
"""

from collections.abc import Mapping

import numpy as np

from tfq_converters.check.simulate import Value, values_read, values_written
from tfq_converters.check.tolerance import FLOAT_TOLERANCE, float_difference
from tfq_converters.graph import AnyArray, Float32Array, Op
from tfq_converters.operators import lstm
from tfq_converters.quantized import OpEncoding, QuantizedGraph, simulated_weight

DIFFERS = "computes something else than its numbers say"


def recurrent_ops(quantized: QuantizedGraph) -> dict[int, OpEncoding]:
    """Return the operators of the main subgraph that are checked here, and their numbers."""
    main = quantized.graph.main
    fused = [o for o, op in enumerate(main.ops) if op.code == lstm.CODE and not lstm.unusual(op, main)]
    fused_encodings = {o: quantized.ops.get((0, o), OpEncoding("float")) for o in fused}
    return {o: encoding for o, encoding in fused_encodings.items() if encoding.mode != "dynamic"}


def wrong_recurrent(quantized: QuantizedGraph, places: Mapping[Value, int], run: Mapping[str, AnyArray], n: int) -> str:
    """Return the first of them that differs in sample `n` from what its numbers say, and how; "" when none does.

    Args:
        quantized: the numbers.
        places: value -> tensor of the file.
        run: `tensor_SAMPLE_INDEX` -> what the file computed, of the shape of that tensor.
        n: the sample.
    """
    main = quantized.graph.main
    for o, encoding in recurrent_ops(quantized).items():
        op = main.ops[o]
        ends = values_read(main, op, encoding).get(0), *values_written(op, encoding)
        if any(end not in places for end in ends):
            continue
        x, h = (run[f"tensor_{n}_{places[end]}"] for end in ends if end is not None)
        wrong = _difference(quantized, op, encoding, x, h)
        if wrong:
            return f"{main.op_name(o)} {DIFFERS}: {wrong}"
    return ""


def _difference(quantized: QuantizedGraph, op: Op, encoding: OpEncoding, x: AnyArray, h: AnyArray) -> str:
    if encoding.mode == "integer":
        return lstm.difference(op, encoding, encoding.inputs[0].decode(x), h)

    def value(slot: int) -> Float32Array:
        if slot in encoding.weights:
            return simulated_weight(encoding.weights[slot])
        return quantized.graph.main.tensors[op.inputs[slot]].constant.astype(np.float32)

    return float_difference(h, lstm.followed(lstm.Lstm.of(op, value), x, h), FLOAT_TOLERANCE)
