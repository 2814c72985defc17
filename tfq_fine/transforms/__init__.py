"""Transforms: changes of a float graph that make it easier to quantize."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_fine.transforms.awq import InputMoments, Rounded, choose_awq
    from tfq_fine.transforms.batch_norm import fold_batch_norm
    from tfq_fine.transforms.block_factors import factor_blocks
    from tfq_fine.transforms.channel_scaling import ScalingPath, scaled
    from tfq_fine.transforms.cross_layer import Changes, choose_scales, powers_of_two, scalable, tensors_on
    from tfq_fine.transforms.editing import Rewritten
    from tfq_fine.transforms.explicit_mul import unscaled_paths, with_products
    from tfq_fine.transforms.log_equalization import log_factors, strategy
    from tfq_fine.transforms.noise import TYPICAL, Channels, Levels, decibels
    from tfq_fine.transforms.residual_stream import residual_streams
    from tfq_fine.transforms.rotation import rotatable_heads, rotated
    from tfq_fine.transforms.shift import choose_shifts
    from tfq_fine.transforms.smooth_quant import ALPHAS, HALF, smooth_quant_factors
    from tfq_fine.transforms.smoothing import (
        SmoothingPath,
        known_size,
        of_unknown_size,
        shifted,
        smoothed,
        smoothing_paths,
        source_of,
    )
    from tfq_fine.transforms.smoothing_choice import Smoothing, choose_smoothing
    from tfq_fine.transforms.unrounded import float_makers
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "awq": "InputMoments Rounded choose_awq",
            "batch_norm": "fold_batch_norm",
            "block_factors": "factor_blocks",
            "channel_scaling": "ScalingPath scaled",
            "smoothing_choice": "Smoothing choose_smoothing",
            "cross_layer": "Changes choose_scales powers_of_two scalable tensors_on",
            "editing": "Rewritten",
            "explicit_mul": "unscaled_paths with_products",
            "log_equalization": "log_factors strategy",
            "noise": "TYPICAL Channels Levels decibels",
            "residual_stream": "residual_streams",
            "rotation": "rotatable_heads rotated",
            "shift": "choose_shifts",
            "smooth_quant": "ALPHAS HALF smooth_quant_factors",
            "smoothing": "SmoothingPath known_size of_unknown_size shifted smoothed smoothing_paths source_of",
            "unrounded": "float_makers",
        },
    )

__all__ = [
    "ALPHAS",
    "HALF",
    "TYPICAL",
    "Changes",
    "Channels",
    "InputMoments",
    "Levels",
    "Rewritten",
    "Rounded",
    "ScalingPath",
    "Smoothing",
    "SmoothingPath",
    "choose_awq",
    "choose_scales",
    "choose_shifts",
    "choose_smoothing",
    "decibels",
    "factor_blocks",
    "float_makers",
    "fold_batch_norm",
    "known_size",
    "log_factors",
    "of_unknown_size",
    "powers_of_two",
    "residual_streams",
    "rotatable_heads",
    "rotated",
    "scalable",
    "scaled",
    "shifted",
    "smooth_quant_factors",
    "smoothed",
    "smoothing_paths",
    "source_of",
    "strategy",
    "tensors_on",
    "unscaled_paths",
    "with_products",
]
