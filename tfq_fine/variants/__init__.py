"""Variants of a model are written, run and measured, and the best one is chosen."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_fine.variants.fitting import with_fitted_weights
    from tfq_fine.variants.float_reference import FloatOutputs, FloatReference, with_outputs
    from tfq_fine.variants.judging import (
        CLASSES,
        WORST,
        Apart,
        Measured,
        decibels_of,
        judged,
        log_softmax,
        uses,
    )
    from tfq_fine.variants.numbers import Numbers, Settings, choose_numbers, choose_ranges
    from tfq_fine.variants.sample_count import SplitSamples, number_of_samples, too_large
    from tfq_fine.variants.select_transforms import chosen_transforms, rewriting, transformed, untransformed
    from tfq_fine.variants.trial import Trial
    from tfq_fine.variants.variant import RequestedSpecs, Variant
    from tfq_fine.variants.variant_numbers import fold_and_plan
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "fitting": "with_fitted_weights",
            "float_reference": "FloatOutputs FloatReference with_outputs",
            "judging": "Apart CLASSES Measured WORST decibels_of judged log_softmax uses",
            "numbers": "Numbers Settings choose_numbers choose_ranges",
            "sample_count": "SplitSamples number_of_samples too_large",
            "select_transforms": "chosen_transforms transformed rewriting untransformed",
            "trial": "Trial",
            "variant": "RequestedSpecs Variant",
            "variant_numbers": "fold_and_plan",
        },
    )

__all__ = [
    "CLASSES",
    "WORST",
    "Apart",
    "FloatOutputs",
    "FloatReference",
    "Measured",
    "Numbers",
    "RequestedSpecs",
    "Settings",
    "SplitSamples",
    "Trial",
    "Variant",
    "choose_numbers",
    "choose_ranges",
    "chosen_transforms",
    "decibels_of",
    "fold_and_plan",
    "judged",
    "log_softmax",
    "number_of_samples",
    "rewriting",
    "too_large",
    "transformed",
    "untransformed",
    "uses",
    "with_fitted_weights",
    "with_outputs",
]
