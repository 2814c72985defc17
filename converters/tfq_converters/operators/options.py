"""Options that operators have in common, by name: the schema numbers its fused activations and paddings."""

from dataclasses import replace
from typing import Literal

from tfq_converters.graph import Op, Options

Activation = Literal["NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT"]
Padding = Literal["SAME", "VALID"]

ACTIVATIONS: tuple[Activation, ...] = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")  # in their order
PADDINGS: tuple[Padding, ...] = ("SAME", "VALID")
FUSED = "fusedActivationFunction"
NOTHING_FUSED = {FUSED: ACTIVATIONS.index("NONE")}

PLAIN_MUL = Options("MulOptions", NOTHING_FUSED)
PLAIN_ADD = Options("AddOptions", NOTHING_FUSED | {"potScaleInt16": False})
PLAIN_SUB = Options("SubOptions", NOTHING_FUSED | {"potScaleInt16": False})


def fused_activation(op: Op) -> Activation:
    """Return the activation function that `op` applies to its results; "NONE" where its options know none.

    >>> fused_activation(Op("MUL", (0, 1), (2,), Options("MulOptions", {FUSED: 3})))
    'RELU6'
    """
    number = 0 if op.options is None else op.options.values.get(FUSED, 0)
    return ACTIVATIONS[number or 0]


def fuses(op: Op) -> bool:
    """Return whether `op` applies an activation function to its results."""
    return fused_activation(op) != "NONE"


def without_activation(op: Op) -> Op:
    """Return the operator with results that no fused activation is applied to."""
    return op if op.options is None else replace(op, options=with_activation(op.options, "NONE"))


def with_activation(options: Options, activation: Activation) -> Options:
    """Return the options of an operator that applies `activation` to its results."""
    return replace(options, values={**options.values, FUSED: ACTIVATIONS.index(activation)})


def padding_of(op: Op) -> Padding:
    """Return whether a window reaches beyond the borders of the input ("SAME") or not ("VALID")."""
    result: Padding = PADDINGS[op.option("padding")]
    return result
