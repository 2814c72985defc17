"""The part of the run check that no operator run alone can do: fused LSTMs in integers, whose states are variables."""

from collections.abc import Mapping

import numpy as np

from tfq_converters import lstm
from tfq_converters.quantized import ActivationEncoding, QuantizedGraph
from tfq_converters.simulate import Value

DIFFERS = "computes something else than its numbers say"


def recurrent_ops(quantized: QuantizedGraph) -> list[int]:
    """The operators of the main subgraph that are checked here."""
    ops = enumerate(quantized.graph.main.ops)
    return [o for o, op in ops if op.code == lstm.CODE and (0, o) in quantized.ops and _is_integer(quantized, o)]


def _is_integer(quantized: QuantizedGraph, o: int) -> bool:
    return quantized.ops[0, o].mode == "integer"


def wrong_recurrent(
    quantized: QuantizedGraph, places: Mapping[Value, int], run: Mapping[str, np.ndarray], n: int
) -> str:
    """The first of them that differs in sample `n` from what its numbers say, and how; "" when none does.

    Args:
        quantized: the numbers.
        places: value -> tensor of the file.
        run: `tensor_SAMPLE_INDEX` -> what the file computed.
        n: the sample.
    """
    main = quantized.graph.main

    def codes(t: int, form: ActivationEncoding) -> np.ndarray:
        return run[f"tensor_{n}_{places[t, form]}"]

    for o in recurrent_ops(quantized):
        op, encoding = main.ops[o], quantized.ops[0, o]
        form = encoding.inputs[0]
        x = form.decode(codes(op.inputs[0], form))
        wrong = lstm.difference(op, encoding, x, codes(op.outputs[0], encoding.outputs[0]))
        if wrong:
            return f"{main.op_name(o)} {DIFFERS}: {wrong}"
    return ""
