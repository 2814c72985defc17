"""Codes and biases of one block, learned from what it reads and shall compute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tfq_converters.errors import TfqError
from tfq_converters.graph import ABSENT, Float32Array, Subgraph
from tfq_converters.operators import bias_of, bias_slot, weight_axes
from tfq_converters.quantized import ActivationEncoding, OpEncoding, OpKey, WeightCodes
from tfq_fine.algorithms import WeightProblem
from tfq_fine.weights.reconstruction.block_function import BlockFunction, Slot
from tfq_fine.weights.reconstruction.blocks import Block
from tfq_fine.weights.reconstruction.learning import Observed, Variables, joined, learn
from tfq_fine.weights.reconstruction.soft_range import SoftRange, SoftRanges
from tfq_fine.weights.reconstruction.soft_rounding import SoftWeight

CHECKED = 3  # samples that the block as TensorFlow computes it is compared on with the kernels
Node = tuple[int, int]  # (tensor, activation bits): the representative of a group of tensors with one encoding
CLOSE = 1e-3  # share of the largest output: float sums in another order differ by far less


@dataclass(frozen=True)
class Learned:
    """Codes and biases of the operators of a block, and encodings of what they write.

    Attributes:
        codes: (operator, slot) -> the codes of a weight.
        biases: operator -> its bias, float32 of its shape.
        how: operator -> how its codes were found, for reports.
        ranges: group of tensors -> its encoding, where another scale was learned.
    """

    codes: Mapping[tuple[OpKey, int], WeightCodes] = field(default_factory=dict)
    biases: Mapping[OpKey, Float32Array] = field(default_factory=dict)
    how: Mapping[OpKey, str] = field(default_factory=dict)
    ranges: Mapping[Node, ActivationEncoding] = field(default_factory=dict)


def learned(
    subgraph: Subgraph,
    block: Block,
    problems: Mapping[tuple[OpKey, int], WeightProblem],
    encodings: Mapping[OpKey, OpEncoding],
    observed: Observed,
    steps: int,
    learnable: Mapping[Node, Sequence[int]] | None = None,
) -> Learned:
    """Return codes, biases and scales of activations that bring the output of a block nearer to the float one.

    Args:
        subgraph: the main subgraph.
        block: the block.
        problems: (operator, slot) -> a weight and the form of its codes.
        encodings: the encodings that its operators begin at.
        observed: what it reads and shall compute.
        steps: the number of gradient steps.
        learnable: group of tensors with one encoding -> those that the block writes, where its scale may be learned.

    Raises:
        TfqError: TensorFlow does not compute the block for several samples at once as the kernels do for each.
    """
    import tensorflow as tf

    function = BlockFunction(subgraph, block)
    _require_equal(function, observed)
    weights: dict[Slot, SoftWeight] = {}
    biases: dict[Slot, Float32Array] = {}
    for key in block.fitted:
        op, encoding = subgraph.ops[key[1]], encodings[key]
        for axes in weight_axes(op, subgraph):
            codes = encoding.weights.get(axes.slot)
            if isinstance(codes, WeightCodes) and (key, axes.slot) in problems:
                weights[key[1], axes.slot] = SoftWeight.of(tf, problems[key, axes.slot], codes)
        bias = bias_of(op)
        if bias != ABSENT and subgraph.tensors[bias].is_constant and problems[key, 1].keeps_mean:
            biases[key[1], bias_slot(op.code)] = _bias(encoding, bias_slot(op.code), subgraph.tensors[bias].constant)
    variables = Variables(
        weights,
        {slot: tf.Variable(values) for slot, values in biases.items()},
        {slot: float(values.std()) or float(np.abs(values).max()) for slot, values in biases.items()},
        _ranges(function, block, encodings, learnable or {}),
    )
    learn(function, variables, observed, steps)
    return Learned(
        {((0, o), slot): weight.codes(tf) for (o, slot), weight in weights.items()},
        {(0, o): bias.numpy() for (o, _), bias in variables.biases.items()},
        {key: f"{encodings[key].algorithm}, reconstructed" for key in block.fitted},
        {node: limits.encoding() for node, limits in variables.ranges.learned.items()},
    )


def _ranges(
    function: BlockFunction,
    block: Block,
    encodings: Mapping[OpKey, OpEncoding],
    learnable: Mapping[Node, Sequence[int]],
) -> SoftRanges:
    """Return the encodings that the operators of a block write, one variable for each group that may be learned."""
    import tensorflow as tf

    written: dict[int, ActivationEncoding] = {}
    for o, op in enumerate(function.ops, block.first):
        outputs = encodings[0, o].outputs if (0, o) in encodings else {}
        written |= {op.outputs[slot]: encoding for slot, encoding in outputs.items()}
    of_tensor = {t: SoftRange.of(tf, encoding) for t, encoding in written.items()}
    learned = {}
    for node, tensors in learnable.items():
        inside = [t for t in tensors if t in written]
        if inside:
            learned[node] = of_tensor[inside[0]]
            of_tensor |= dict.fromkeys(inside, learned[node])
    return SoftRanges(of_tensor, learned)


def _bias(encoding: OpEncoding, slot: int, constant: Float32Array) -> Float32Array:
    """Return the bias as the file holds it: corrected, or in codes at the scale of the sums."""
    stored = encoding.weights.get(slot, constant)
    if isinstance(stored, WeightCodes):
        return (stored.codes * stored.scale).reshape(constant.shape).astype(np.float32)
    return np.asarray(stored, np.float32).reshape(constant.shape)


def _require_equal(function: BlockFunction, observed: Observed) -> None:
    """Raise unless TensorFlow computes what the kernels compute in the float model."""
    import tensorflow as tf

    inputs = {t: tf.constant(joined([values[t] for values in observed.exact[:CHECKED]])) for t in function.inputs}
    expected = joined(observed.target[:CHECKED])
    try:
        outputs = function(tf, inputs, {}).numpy()
    except (tf.errors.OpError, ValueError, TypeError) as error:
        raise TfqError(f"TensorFlow does not compute it for several samples at once: {error}") from error
    if outputs.shape != expected.shape or not np.abs(outputs - expected).max() <= CLOSE * np.abs(expected).max():
        raise TfqError("TensorFlow computes something else than the kernels do")
