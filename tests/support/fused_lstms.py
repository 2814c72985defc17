"""A fused LSTM of tf_keras, and what it computes, in numpy."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from support.cells import Cell
from support.emitted import File, Operator
from tfq_converters.flatbuffer.writing import write
from tfq_converters.reading.reader import read_model
from tfq_converters.runtime.runner import Kernels, Runner
from tfq_fine.request.granularity import PerChannel, PerTensor
from tfq_fine.request.specs import ActivationSpec, OpSpec, WeightSpec

CODE = "UNIDIRECTIONAL_SEQUENCE_LSTM"


STEPS, FEATURES, UNITS = 5, 13, 7


WEIGHTS, BIASES = range(1, 9), range(12, 16)  # slots: of the input, then of the state; input, forget, cell, output gate


CELL_CLIP = 10.0  # that the converter writes


WAYS = (
    *(("weight_only", bits, kind) for bits in (8, 4, 2) for kind in (PerTensor(), PerChannel())),
    ("dynamic", 8, PerTensor()),
)


LSTM_CELLS = [
    Cell(OpSpec(mode, WeightSpec(bits, kind, algorithm="round_to_nearest", bias_correction=False)))
    for mode, bits, kind in WAYS
]


INTEGER_CELL = Cell(OpSpec("integer", WeightSpec(8, PerTensor()), ActivationSpec(8)))  # `test_fused_lstm_integer`


@cache
def model() -> Any:
    """Kernels whose size differs from gate to gate, and biases."""
    import tf_keras

    made = tf_keras.Sequential([tf_keras.Input((STEPS, FEATURES), batch_size=1), tf_keras.layers.LSTM(UNITS)])
    rng = np.random.default_rng(0)
    gates = np.repeat([0.5, 1.0, 1.5, 2.0], UNITS)
    made.set_weights([(rng.normal(size=w.shape) * gates / 3).astype(np.float32) for w in made.get_weights()])
    return made


@cache
def content() -> bytes:
    return write(read_model(model(), check=False).graph)


def lstm(
    x: np.ndarray,
    weights: list[np.ndarray],
    biases: list[np.ndarray],
    rounded: Callable[[np.ndarray], np.ndarray] = lambda state: state,
    cells: list[np.ndarray] | None = None,
) -> np.ndarray:
    """[steps, features] -> the last state [units], float64; every state is `rounded`, every cell added to `cells`."""
    state, cell = np.zeros(UNITS), np.zeros(UNITS)
    for step in x.astype(np.float64):
        sums = [w @ step + r @ state + b for w, r, b in zip(weights[:4], weights[4:], biases, strict=True)]
        take, keep, give = (1 / (1 + np.exp(-sums[n])) for n in (0, 1, 3))
        cell = np.clip(keep * cell + take * np.tanh(sums[2]), -CELL_CLIP, CELL_CLIP)
        state = rounded(give * np.tanh(cell))
        if cells is not None:
            cells.append(cell)
    return state


def operands(file: File) -> tuple[Operator, list[np.ndarray], list[np.ndarray]]:
    (op,) = [op for op in file.ops if op.code == CODE]
    weights, biases = ([file.value(op.inputs[slot]) for slot in slots] for slots in (WEIGHTS, BIASES))
    return op, weights, biases


def sequences(count: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, STEPS, FEATURES)).astype(np.float32)


def run(made: bytes, kernels: Kernels, x: np.ndarray) -> np.ndarray:
    """Each sequence from the beginning: the operator keeps its state."""
    return np.concatenate([Runner(made, kernels).run([sequence[None]])[0] for sequence in x])
