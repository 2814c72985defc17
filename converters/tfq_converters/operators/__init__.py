"""Facts about operators: which have integer kernels, weights, states, and which runtime knows which version."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_converters.operators import lstm
    from tfq_converters.operators.facts import WeightAxes, facts_of
    from tfq_converters.operators.integer_kernels import OPS, KernelRow, misfits
    from tfq_converters.operators.lstm import CELL, HIDDEN
    from tfq_converters.operators.options import (
        ACTIVATIONS,
        FUSED,
        NOTHING_FUSED,
        PLAIN_ADD,
        PLAIN_MUL,
        PLAIN_SUB,
        Activation,
        fused_activation,
        fuses,
        padding_of,
        with_activation,
        without_activation,
    )
    from tfq_converters.operators.versions import METADATA, min_runtime_version
    from tfq_converters.operators.weights import (
        bias_of,
        bias_slot,
        channels_of,
        data_of,
        data_slot,
        float_constants,
        groups_of,
        is_pointwise,
        weight_axes,
    )
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "facts": "WeightAxes facts_of",
            "integer_kernels": "OPS KernelRow misfits",
            "lstm": "CELL HIDDEN lstm",
            "options": "ACTIVATIONS Activation FUSED NOTHING_FUSED PLAIN_ADD PLAIN_MUL PLAIN_SUB "
            "fused_activation fuses padding_of with_activation "
            "without_activation",
            "versions": "METADATA min_runtime_version",
            "weights": "bias_of bias_slot channels_of data_of data_slot float_constants groups_of is_pointwise "
            "weight_axes",
        },
    )

__all__ = [
    "ACTIVATIONS",
    "CELL",
    "FUSED",
    "HIDDEN",
    "METADATA",
    "NOTHING_FUSED",
    "OPS",
    "PLAIN_ADD",
    "PLAIN_MUL",
    "PLAIN_SUB",
    "Activation",
    "KernelRow",
    "WeightAxes",
    "bias_of",
    "bias_slot",
    "channels_of",
    "data_of",
    "data_slot",
    "facts_of",
    "float_constants",
    "fused_activation",
    "fuses",
    "groups_of",
    "is_pointwise",
    "lstm",
    "min_runtime_version",
    "misfits",
    "padding_of",
    "weight_axes",
    "with_activation",
    "without_activation",
]
