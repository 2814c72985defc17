"""Weights: their layout in the file, their codes, their biases, and with them all numbers of a graph."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_fine.weights.assembly import BORDER_TYPES, quantize
    from tfq_fine.weights.bias import corrects, corrects_biases, with_corrections
    from tfq_fine.weights.bias_correction import corrected_bias, mean_shift
    from tfq_fine.weights.codes_on_disk import (
        CodesOnDisk,
        add_content,
        algorithm_source,
        arrays_of_codes,
        codes_of_arrays,
    )
    from tfq_fine.weights.encoder import Encoder
    from tfq_fine.weights.fitting import Fitting, fitting_steps
    from tfq_fine.weights.integer import constant_codes
    from tfq_fine.weights.layouts import layout
    from tfq_fine.weights.needs import plan_needs
    from tfq_fine.weights.solving import LARGE_WEIGHT, LayerInputs, Solver
    from tfq_fine.weights.stand_ins import fits_weights, with_stand_ins
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "assembly": "BORDER_TYPES quantize",
            "bias": "corrects corrects_biases with_corrections",
            "bias_correction": "corrected_bias mean_shift",
            "codes_on_disk": "CodesOnDisk add_content algorithm_source arrays_of_codes codes_of_arrays",
            "encoder": "Encoder",
            "fitting": "Fitting fitting_steps",
            "integer": "constant_codes",
            "layouts": "layout",
            "needs": "plan_needs",
            "solving": "LARGE_WEIGHT LayerInputs Solver",
            "stand_ins": "fits_weights with_stand_ins",
        },
    )

__all__ = [
    "BORDER_TYPES",
    "LARGE_WEIGHT",
    "CodesOnDisk",
    "Encoder",
    "Fitting",
    "LayerInputs",
    "Solver",
    "add_content",
    "algorithm_source",
    "arrays_of_codes",
    "codes_of_arrays",
    "constant_codes",
    "corrected_bias",
    "corrects",
    "corrects_biases",
    "fits_weights",
    "fitting_steps",
    "layout",
    "mean_shift",
    "plan_needs",
    "quantize",
    "with_corrections",
    "with_stand_ins",
]
