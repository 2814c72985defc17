"""Facts about operators: which have integer kernels, weights, states, and which runtime knows which version."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_converters.operators import lstm
    from tfq_converters.operators.integer_kernels import OPS, OpRow, misfits
    from tfq_converters.operators.lstm import CELL, HIDDEN
    from tfq_converters.operators.versions import METADATA, min_runtime_version
    from tfq_converters.operators.weights import (
        BIAS_SLOT,
        DATA_SLOT,
        WEIGHTS,
        WeightAxes,
        bias_of,
        channels_of,
        data_of,
        float_constants,
        groups_of,
        is_pointwise,
        weight_axes,
    )
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "integer_kernels": "OPS OpRow misfits",
            "lstm": "CELL HIDDEN lstm",
            "versions": "METADATA min_runtime_version",
            "weights": "BIAS_SLOT DATA_SLOT WEIGHTS WeightAxes bias_of channels_of data_of float_constants groups_of "
            "is_pointwise weight_axes",
        },
    )

__all__ = [
    "BIAS_SLOT",
    "CELL",
    "DATA_SLOT",
    "HIDDEN",
    "METADATA",
    "OPS",
    "WEIGHTS",
    "OpRow",
    "WeightAxes",
    "bias_of",
    "channels_of",
    "data_of",
    "float_constants",
    "groups_of",
    "is_pointwise",
    "lstm",
    "min_runtime_version",
    "misfits",
    "weight_axes",
]
