"""The states and biases of fused LSTMs in integers."""

from collections.abc import Mapping

import numpy as np

from tfq_converters.graph import FloatArray, Op, Subgraph
from tfq_converters.operators import lstm
from tfq_converters.quantized import ActivationEncoding, OpKey, WeightCodes
from tfq_fine.calibration import Statistics
from tfq_fine.numerics import affine


def state_encodings(key: OpKey, op: Op, output: ActivationEncoding, known: Statistics) -> dict[int, ActivationEncoding]:
    """Return the encodings of both states of a fused LSTM; a c that was not seen may reach what the clip allows."""
    strain = known.strains.get(key)
    largest = (op.option("cellClip") or np.inf) if strain is None else float(strain[0])
    return {lstm.HIDDEN: output, lstm.CELL: lstm.cell_encoding(largest)}


def gate_biases(
    op: Op, subgraph: Subgraph, input_scale: float, constants: Mapping[int, WeightCodes | FloatArray]
) -> dict[int, WeightCodes | FloatArray]:
    """Return {slot: codes [units]} of the biases of a fused LSTM, which are added to the sum of the input."""
    biases: dict[int, WeightCodes | FloatArray] = {}
    for slot, bias in zip(lstm.INPUT_WEIGHTS, lstm.BIASES, strict=True):
        weight, data = constants[slot], subgraph.tensors[op.inputs[bias]].constant
        assert isinstance(weight, WeightCodes)
        biases[bias] = affine.encode_bias(data.reshape(-1), input_scale, weight.scale.reshape(-1), 32)
    return biases
