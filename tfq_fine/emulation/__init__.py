"""A `.tflite` graph computed in TensorFlow as the default kernels compute it: integers as codes, in float32.

`operators` says what every operator computes in float, `linear` what the integer and dynamic-range kernels of linear
operators compute, `codes` how values are put on codes, `interpreter` walks the graph.
"""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_fine.emulation import affine_tf
    from tfq_fine.emulation.codes import is_quantized
    from tfq_fine.emulation.gradients import pulled_back
    from tfq_fine.emulation.interpreter import Interpreter, refuse_unknown
    from tfq_fine.emulation.linear import in_float
    from tfq_fine.emulation.operators import OPERATORS
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "affine_tf": "affine_tf",
            "codes": "is_quantized",
            "gradients": "pulled_back",
            "interpreter": "Interpreter refuse_unknown",
            "linear": "in_float",
            "operators": "OPERATORS",
        },
    )

__all__ = [
    "OPERATORS",
    "Interpreter",
    "affine_tf",
    "in_float",
    "is_quantized",
    "pulled_back",
    "refuse_unknown",
]
