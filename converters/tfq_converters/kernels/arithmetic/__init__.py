"""The arithmetic of integer kernels that are more than one step away from the rounded float operator."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_converters.kernels.arithmetic.emulated import is_emulated, kernel_difference
    from tfq_converters.kernels.arithmetic.rescaling import MULTIPLIER_BITS, fixed_point
    from tfq_converters.kernels.arithmetic.resizing import PLACE_BITS, SHORT_PLACE_BITS, Place, between, short_between
    from tfq_converters.kernels.arithmetic.tables import LEAST, MOST, SIGMOID, STEPS, anchors
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "emulated": "is_emulated kernel_difference",
            "rescaling": "MULTIPLIER_BITS fixed_point",
            "resizing": "PLACE_BITS Place SHORT_PLACE_BITS between short_between",
            "tables": "LEAST MOST SIGMOID STEPS anchors",
        },
    )

__all__ = [
    "LEAST",
    "MOST",
    "MULTIPLIER_BITS",
    "PLACE_BITS",
    "SHORT_PLACE_BITS",
    "SIGMOID",
    "STEPS",
    "Place",
    "anchors",
    "between",
    "fixed_point",
    "is_emulated",
    "kernel_difference",
    "short_between",
]
