"""Transforms: changes of a float graph that make it easier to quantize."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_fine.transforms.batch_norm import fold_batch_norm
    from tfq_fine.transforms.block_factors import factor_blocks
    from tfq_fine.transforms.channel_scaling import ScalingPath, scaled
    from tfq_fine.transforms.cross_layer import Changes, choose_scales, powers_of_two, scalable, tensors_on
    from tfq_fine.transforms.editing import Rewritten
    from tfq_fine.transforms.noise import Channels, Levels, decibels
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "batch_norm": "fold_batch_norm",
            "block_factors": "factor_blocks",
            "channel_scaling": "ScalingPath scaled",
            "cross_layer": "Changes choose_scales powers_of_two scalable tensors_on",
            "editing": "Rewritten",
            "noise": "Channels Levels decibels",
        },
    )

__all__ = [
    "Changes",
    "Channels",
    "Levels",
    "Rewritten",
    "ScalingPath",
    "choose_scales",
    "decibels",
    "factor_blocks",
    "fold_batch_norm",
    "powers_of_two",
    "scalable",
    "scaled",
    "tensors_on",
]
