"""Gradient descent on the roundings, scales and biases of one block, towards what it computes in the float model.

Li et al. 2021, "BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction" (arXiv 2102.05426),
algorithm 1; the error is the squared difference of outputs, without the Fisher information of equation 10. Inputs are
mixed value by value from float ones and those that the quantized operators before compute (Wei et al. 2022, "QDrop",
arXiv 2203.05740, section 3.3).

Errors are shares of the variance of the output, and the weight of the regularizer is one of the error of the codes that
weights begin at, so that one set of rates suits all blocks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tfq_converters.graph import AnyArray, Float32Array
from tfq_fine.weights.reconstruction.block_function import BlockFunction, Slot
from tfq_fine.weights.reconstruction.soft_range import SoftRanges
from tfq_fine.weights.reconstruction.soft_rounding import SoftWeight

BATCH, LEAST_BATCH = 32, 4  # samples of a step
AT_ONCE = 2**22  # values of the largest tensor of the block in all samples of a step, as far as LEAST_BATCH allows
MIXED = 0.2  # share of input values that are the float ones; the codes at the start correct what is lost before
WARM_UP = 0.2  # share of the steps that the regularizer is left out of
FIRST_POWER, LAST_POWER = 20.0, 2.0  # power of the regularizer, which is weak at first
REGULARIZER = 100.0  # its weight, in errors of the codes that weights begin at
ROUNDING_RATE, SCALE_RATE, BIAS_RATE = 0.1, 1e-3, 1e-3  # learning rates; of biases in their standard deviation
RANGE_RATE = 3e-3  # learning rate of the logarithms of scales of activations
MEMORY, MEMORY_OF_SQUARES, TINY = 0.9, 0.999, 1e-8  # Adam's


@dataclass(frozen=True)
class Observed:
    """The inputs of a block and the output that it shall compute, one entry for each sample.

    Attributes:
        exact: tensor -> its value in the float model.
        quantized: tensor -> its value as the quantized operators before the block compute it.
        target: the output of the block in the float model.
    """

    exact: Sequence[Mapping[int, AnyArray]]
    quantized: Sequence[Mapping[int, AnyArray]]
    target: Sequence[Float32Array]


@dataclass(frozen=True)
class Variables:
    """The variables of a block: roundings, scales and biases.

    Attributes:
        weights: the weights between their codes.
        biases: TensorFlow variables of the shapes of the biases.
        units: the standard deviation of every bias.
        ranges: the encodings of what the operators of the block write.
    """

    weights: Mapping[Slot, SoftWeight]
    biases: Mapping[Slot, Any]
    units: Mapping[Slot, float]
    ranges: SoftRanges = field(default_factory=SoftRanges)

    def rated(self) -> list[tuple[Any, float]]:
        """Return every TensorFlow variable and its learning rate."""
        weights = self.weights.values()
        pairs = [(w.variable, ROUNDING_RATE) for w in weights]
        pairs += [(w.stretch, SCALE_RATE) for w in weights if w.start.scale.shape == w.problem.grid]
        pairs += [(limits.stretch, RANGE_RATE) for limits in self.ranges.learned.values()]
        return pairs + [(bias, BIAS_RATE * self.units[slot]) for slot, bias in self.biases.items()]

    def constants(self, tf: Any) -> dict[Slot, Any]:
        """Return what takes the place of the constants of the graph."""
        return {slot: weight.values(tf) for slot, weight in self.weights.items()} | dict(self.biases)

    def undecided(self, tf: Any, power: Any) -> Any:
        """Return the mean regularizer of all weights."""
        return tf.add_n([w.undecided(tf, power) for w in self.weights.values()]) / float(len(self.weights))


class Adam:
    """Kingma & Ba 2015 (arXiv 1412.6980), algorithm 1. Keras' own needs TensorFlow as the backend of Keras."""

    def __init__(self, tf: Any, rated: Sequence[tuple[Any, float]]):
        self._tf, self._rated = tf, rated
        self._means = [tf.Variable(tf.zeros_like(v)) for v, _ in rated]
        self._squares = [tf.Variable(tf.zeros_like(v)) for v, _ in rated]

    def apply(self, gradients: Sequence[Any], step: Any) -> None:
        """Move the variables; `step` counts from 1."""
        tf = self._tf
        corrected = tf.sqrt(1.0 - MEMORY_OF_SQUARES**step) / (1.0 - MEMORY**step)
        for (v, rate), mean, square, g in zip(self._rated, self._means, self._squares, gradients, strict=True):
            mean.assign(MEMORY * mean + (1.0 - MEMORY) * g)
            square.assign(MEMORY_OF_SQUARES * square + (1.0 - MEMORY_OF_SQUARES) * g * g)
            v.assign_sub(rate * corrected * mean / (tf.sqrt(square) + TINY))


def learn(function: BlockFunction, variables: Variables, observed: Observed, steps: int, seed: int = 0) -> None:
    """Move the variables in so many steps.

    Args:
        function: the block.
        variables: what is learned.
        observed: what the block reads and shall compute.
        steps: the number of steps.
        seed: that of the order of samples and of the mixture of inputs.
    """
    import tensorflow as tf

    rated = variables.rated()
    adam = Adam(tf, rated)
    variance = max(float(np.mean([np.var(target) for target in observed.target])), TINY)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def stepped(inputs: Mapping[int, Any], target: Any, step: Any, power: Any, strength: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = function(tf, inputs, variables.constants(tf), partial(variables.ranges.rounded, tf))
            error = tf.reduce_mean((outputs - target) ** 2) / variance
            loss = error + strength * variables.undecided(tf, power)
        adam.apply(tape.gradient(loss, [v for v, _ in rated], unconnected_gradients="zero"), step)
        return error

    at_start = _error_at_start(tf, function, variables, observed, variance)
    size = min(max(AT_ONCE // function.largest, LEAST_BATCH), BATCH)
    for step, (inputs, target) in enumerate(_batches(function.inputs, observed, steps, size, seed), start=1):
        done = (step / steps - WARM_UP) / (1 - WARM_UP)
        power = LAST_POWER + (FIRST_POWER - LAST_POWER) * (1 + np.cos(np.pi * max(done, 0.0))) / 2
        strength = REGULARIZER * at_start if done > 0 else 0.0
        numbers = (tf.constant(number, tf.float32) for number in (step, power, strength))
        stepped({t: tf.constant(v) for t, v in inputs.items()}, tf.constant(target), *numbers)


def _error_at_start(
    tf: Any, function: BlockFunction, variables: Variables, observed: Observed, variance: float
) -> float:
    """Return the error of the codes that the weights begin at, on a few samples."""
    constants = {slot: tf.constant(weight.start.dequantize()) for slot, weight in variables.weights.items()}
    first = range(min(BATCH, len(observed.target)))
    constants |= variables.biases
    outputs = (function(tf, observed.quantized[n], constants).numpy() for n in first)
    errors = [np.mean(np.square(output - observed.target[n])) for n, output in zip(first, outputs, strict=True)]
    return float(np.mean(errors)) / variance


def _batches(
    read: Sequence[int], observed: Observed, steps: int, size: int, seed: int
) -> Iterator[tuple[dict[int, AnyArray], Float32Array]]:
    """Yield (inputs, target) of a batch of `size` for each step; every sample comes once before any comes again."""
    draws, count = np.random.default_rng(seed), len(observed.target)
    waiting: list[int] = []
    for _ in range(steps):
        while len(waiting) < size:
            waiting += draws.permutation(count).tolist()
        taken, waiting = waiting[:size], waiting[size:]
        inputs = {}
        for t in read:
            exact, quantized = (
                joined([values[n][t] for n in taken]) for values in (observed.exact, observed.quantized)
            )
            takes = draws.random(exact.shape, np.float32) < MIXED
            inputs[t] = np.where(takes, exact, quantized) if exact.dtype == np.float32 else exact
        yield inputs, joined([observed.target[n] for n in taken])


def joined(values: Sequence[AnyArray]) -> AnyArray:
    """Return the values of several samples along their first axis; of scalars the first one."""
    return np.concatenate(values) if values[0].ndim else values[0]
