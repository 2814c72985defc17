"""Keras layer wrappers: mark layers, simulate their quantization, fine-tune, and get exactly that in the file.

Users call `annotate`, `FineQuantize`, `simulate`, `freeze_ranges`, `fold_batch_norm` and `load_model`; the other names
are for the stages of a job.
"""

from typing import TYPE_CHECKING

from tfq_converters import face
from tfq_converters.errors import extras_named

if TYPE_CHECKING:
    from tfq_fine.layers.annotation import annotate
    from tfq_fine.layers.barrier import without_marks
    from tfq_fine.layers.calibration import calibrate_wrappers, converted
    from tfq_fine.layers.export import WrappedModel, wrapped_model
    from tfq_fine.layers.fine_quantize import FineQuantize
    from tfq_fine.layers.folding import fold_batch_norm
    from tfq_fine.layers.kernel import QuantizedKernel
    from tfq_fine.layers.kernel_plan import plan_kernel
    from tfq_fine.layers.layer_table import Kernel, LayerRow, from_op, kernels_of, op_shape, row_of, to_op
    from tfq_fine.layers.loading import load_model
    from tfq_fine.layers.overrides import Overrides
    from tfq_fine.layers.simulation import simulate
    from tfq_fine.layers.wrapped import freeze_ranges, wrappers
else:
    _load, __dir__ = face(
        __name__,
        {
            "annotation": "annotate",
            "barrier": "without_marks",
            "calibration": "calibrate_wrappers converted",
            "export": "WrappedModel wrapped_model",
            "fine_quantize": "FineQuantize",
            "folding": "fold_batch_norm",
            "kernel": "QuantizedKernel",
            "kernel_plan": "plan_kernel",
            "layer_table": "Kernel LayerRow from_op kernels_of op_shape row_of to_op",
            "loading": "load_model",
            "overrides": "Overrides",
            "simulation": "simulate",
            "wrapped": "freeze_ranges wrappers",
        },
    )
    __getattr__ = extras_named()(_load)

__all__ = [
    "FineQuantize",
    "Kernel",
    "LayerRow",
    "Overrides",
    "QuantizedKernel",
    "WrappedModel",
    "annotate",
    "calibrate_wrappers",
    "converted",
    "fold_batch_norm",
    "freeze_ranges",
    "from_op",
    "kernels_of",
    "load_model",
    "op_shape",
    "plan_kernel",
    "row_of",
    "simulate",
    "to_op",
    "without_marks",
    "wrapped_model",
    "wrappers",
]
