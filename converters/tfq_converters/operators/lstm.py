"""The fused LSTM of tf_keras: which of its inputs are what, and its recurrence in numpy.

c[t] = f c[t-1] + i g and h[t] = o tanh(c[t]), with i, f, o = sigmoid(z), g = tanh(z), and z = W x[t] + b + R h[t-1] of
each gate (Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000). Once all h are known, no gate has to
wait for the one before: all sums are one product, and c follows step by step.

The integer kernel holds h in int8, c in int16 at a power of two, gates in int16 with 15 fractional bits, and their sums
in int16 with 12, first that of the input alone, then both: each saturates at 8.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tfq_converters.graph import ABSENT, Float32Array, Float64Array, FloatArray, IntArray, Op, Subgraph
from tfq_converters.operators.options import fused_activation
from tfq_converters.quantized import ActivationEncoding, OpEncoding, simulated_weight

D = TypeVar("D", bound=np.number[Any])

CODE = "UNIDIRECTIONAL_SEQUENCE_LSTM"
INPUT_WEIGHTS, STATE_WEIGHTS, BIASES = range(1, 5), range(5, 9), range(12, 16)  # input, forget, cell and output gate
HIDDEN, CELL = 18, 19  # the two states, which are variables
OTHERS = {
    "peepholes": range(9, 12),
    "a projection": range(16, 18),
    "layer normalization": range(20, 24),
}
TANH = 4  # its number in the schema's activation functions
SUM_STEP, SUM_LIMIT = 2.0**-12, 8.0
GATE_STEP = 2.0**-15
TABLE_STEPS = 3  # that sigmoid and tanh may be off; measured, as those of TANH in `integer_kernels`
CELL_EXPONENTS = range(-15, -8)  # exponents of the scale of c that the kernel takes


@dataclass(frozen=True)
class Lstm:
    """The constants of one operator, by gate: input, forget, cell, output."""

    weights: FloatArray  # [4, units, inputs]
    state_weights: FloatArray  # [4, units, units]
    biases: FloatArray  # [4, units]
    clip: float  # the limit of c; 0 for none
    time_major: bool

    @staticmethod
    def of(op: Op, value: Callable[[int], Float32Array]) -> "Lstm":
        """Return the constants of `op`, where `value` gives that of a slot.

        A weight is float32 [units, inputs], or [units, units] of the state; a bias is float32 [units].
        """
        weights, states, biases = (
            np.stack([value(s) for s in slots]) for slots in (INPUT_WEIGHTS, STATE_WEIGHTS, BIASES)
        )
        return Lstm(weights, states, biases, float(op.option("cellClip") or 0.0), bool(op.option("timeMajor")))

    def sums(self, x: FloatArray, h: FloatArray) -> tuple[Float64Array, Float64Array]:
        """Return the sums of the gates, of the input with the bias and of the state: each [4, steps, batch, units].

        Args:
            x: the input, [steps, batch, inputs].
            h: the output, [steps, batch, units].
        """
        before = np.concatenate([np.zeros_like(h[:1]), h[:-1]])
        return _product(x, self.weights) + self.biases[:, None, None], _product(before, self.state_weights)

    def by_steps(self, values: NDArray[D]) -> NDArray[D]:
        """Return an input or output of the operator as [steps, batch, channels], or the reverse."""
        return values if self.time_major else values.swapaxes(0, 1)


def unusual(op: Op, subgraph: Subgraph) -> str:
    """Return why `op` is none that this module, or the integer kernel, computes; "" when it is."""
    operands = {slot: t for slot, t in enumerate(op.inputs) if t != ABSENT}
    names = [name for name, slots in OTHERS.items() if any(slot in operands for slot in slots)]
    needed = [*INPUT_WEIGHTS, *STATE_WEIGHTS, *BIASES]
    if any(slot not in operands or not subgraph.tensors[operands[slot]].is_constant for slot in needed):
        names.append("gates without constant weights and biases of their own")
    elif any(len(subgraph.tensors[operands[slot]].shape) != 2 for slot in needed[:-4]):
        names.append("diagonal weights")
    if fused_activation(op) != "TANH":
        names.append("another activation than tanh")
    return f"no integer kernel for {', '.join(names)}" if names else ""


def float_constants_of(op: Op, subgraph: Subgraph) -> Lstm:
    """Return the constants as the float graph holds them."""
    return Lstm.of(op, lambda slot: np.asarray(subgraph.tensors[op.inputs[slot]].data))


def strain(lstm: Lstm, x: FloatArray, h: FloatArray) -> Float64Array:
    """Return float64 [2]: the largest |c|, and how far a gate is off where sums saturate at 8.

    Args:
        lstm: the float constants.
        x: the input of one run.
        h: the output of one run.
    """
    own, state = lstm.sums(lstm.by_steps(x), lstm.by_steps(h))
    gates = _gates(own + state)
    off = 0.0
    if np.abs(own).max() > SUM_LIMIT:  # the sums of both may saturate: sigmoid is flat there
        off = float(np.abs(gates - _gates(_saturated(_saturated(own) + state))).max())
    return np.array([np.abs(_cells(gates, lstm.clip)).max(), off])


def followed(lstm: Lstm, x: FloatArray, h: FloatArray) -> Float64Array:
    """Return the output of every step, where the states of the steps before were `h`: float64, of the shape of `h`.

    Args:
        lstm: the constants.
        x: the input of one run.
        h: the output of one run.
    """
    own, state = lstm.sums(lstm.by_steps(x).astype(np.float64), lstm.by_steps(h).astype(np.float64))
    gates = _gates(own + state)
    return lstm.by_steps(gates[3] * np.tanh(_cells(gates, lstm.clip)))


def cell_encoding(largest: float) -> ActivationEncoding:
    """Return the finest encoding that the kernel takes which holds |c| up to `largest`, or the coarsest.

    >>> cell_encoding(1.5).scale == 2**-14
    True
    """
    exponent = next((e for e in CELL_EXPONENTS if 2.0 ** (e + 15) >= largest), CELL_EXPONENTS[-1])
    return ActivationEncoding("int16", 2.0**exponent, 0)


def difference(op: Op, encoding: OpEncoding, x: FloatArray, codes: IntArray) -> str:
    """Return what is wrong with the integer kernel's output; "" when it is what its numbers say.

    Every step is judged by itself, on the h that the kernel wrote in the step before. What cannot be seen is c; how far
    it may be off by its own roundings and by those of the gates is added up along with it. tanh has slope 1 at most.

    Args:
        op: the operator.
        encoding: its numbers.
        x: the real values of its input.
        codes: what it wrote.
    """
    lstm = Lstm.of(op, lambda slot: simulated_weight(encoding.weights[slot]).astype(np.float64))
    form, cell = encoding.outputs[0], encoding.inputs[CELL]
    by_step = lstm.by_steps(codes)
    own, state = lstm.sums(lstm.by_steps(x).astype(np.float64), form.decode(by_step).astype(np.float64))
    gates = _gates(_saturated(_saturated(own) + state))
    limit = min(lstm.clip or np.inf, cell.scale * np.iinfo("int16").max)
    cells = _cells(gates, limit)
    off = _cells_off(gates, cells, cell.scale)
    table = TABLE_STEPS * GATE_STEP
    expected = gates[3] * np.tanh(cells)
    allowed = off + table + np.abs(expected) * (SUM_STEP / 4 + table)
    away = np.abs(np.clip(expected / form.scale + form.zero_point, -128, 127) - by_step)
    beyond = away - allowed / form.scale
    worst = np.unravel_index(np.argmax(beyond), beyond.shape)
    if beyond[worst] <= 0.51:  # what is not off is rounded
        return ""
    steps = f"{away[worst]:.1f} steps of its scale from the simulated value, {allowed[worst] / form.scale:.1f} allowed"
    return f"step {worst[0]} is {steps}"


def _product(values: FloatArray, weights: FloatArray) -> Float64Array:
    """Multiply [steps, batch, k] by [4, units, k] into [4, steps, batch, units]."""
    product = values.reshape(-1, values.shape[-1]) @ weights.reshape(-1, weights.shape[-1]).T
    return np.moveaxis(product.reshape(*values.shape[:2], *weights.shape[:2]), 2, 0)


def _saturated(sums: Float64Array) -> Float64Array:
    result: Float64Array = np.clip(sums, -SUM_LIMIT, SUM_LIMIT - SUM_STEP)
    return result


def _gates(sums: Float64Array) -> Float64Array:
    """Apply sigmoid to input, forget and output gates, tanh to the cell gate; [4, steps, batch, units] like `sums`."""
    gates = 0.5 + 0.5 * np.tanh(sums / 2)
    gates[2] = np.tanh(sums[2])
    return gates


def _cells(gates: Float64Array, limit: float) -> Float64Array:
    """Return the cell state c after every step, [steps, batch, units]."""
    bound = limit or np.inf
    cells: Float64Array = np.empty_like(gates[0])
    state = np.zeros_like(cells[0])
    for t, (take, keep, new, _) in enumerate(gates.swapaxes(0, 1)):
        state = np.clip(keep * state + take * new, -bound, bound)
        cells[t] = state
    return cells


def _cells_off(gates: Float64Array, cells: Float64Array, step: float) -> Float64Array:
    """Return how far `cells` may be off in every step.

    Sums are off by two roundings, half a step each, sigmoid by a quarter of that, both functions by their tables, and
    both products of c are rounded.
    """
    before = np.concatenate([np.zeros_like(cells[:1]), cells[:-1]])
    table = TABLE_STEPS * GATE_STEP
    sigmoid, tanh = SUM_STEP / 4 + table, SUM_STEP + table
    take, keep, new, _ = gates
    each = np.abs(before) * sigmoid + np.abs(new) * sigmoid + (take + sigmoid) * tanh + step
    off = np.zeros_like(cells)
    for t in range(len(cells)):
        off[t] = each[t] + (0.0 if t == 0 else (keep[t] + sigmoid) * off[t - 1])
    return off
