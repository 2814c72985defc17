"""Requests: recipes, what they ask of an operator, presets, and the checks of options."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_fine.request.former_names import renamed, warn_of
    from tfq_fine.request.granularity import Blocks, ChannelGroups, Granularity, PerChannel, PerTensor, block_shape
    from tfq_fine.request.max_drop import SHARES, MaxDrop
    from tfq_fine.request.own_name import OwnName, as_name
    from tfq_fine.request.presets import RECIPES, named
    from tfq_fine.request.quality import Quality, with_quality
    from tfq_fine.request.recipe import Layers, Recipe, Rule
    from tfq_fine.request.specs import (
        GRANULARITIES,
        ActivationSpec,
        IntegerSpec,
        OpSpec,
        WeightedSpec,
        WeightSpec,
        from_json,
        stored_bits,
        to_json,
    )
    from tfq_fine.request.validation import check_options, type_name
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "former_names": "renamed warn_of",
            "granularity": "Blocks ChannelGroups Granularity PerChannel PerTensor block_shape",
            "max_drop": "MaxDrop SHARES",
            "own_name": "OwnName as_name",
            "presets": "RECIPES named",
            "quality": "Quality with_quality",
            "recipe": "Layers Recipe Rule",
            "specs": "ActivationSpec GRANULARITIES IntegerSpec OpSpec WeightSpec WeightedSpec from_json "
            "stored_bits to_json",
            "validation": "check_options type_name",
        },
    )

__all__ = [
    "GRANULARITIES",
    "RECIPES",
    "SHARES",
    "ActivationSpec",
    "Blocks",
    "ChannelGroups",
    "Granularity",
    "IntegerSpec",
    "Layers",
    "MaxDrop",
    "OpSpec",
    "OwnName",
    "PerChannel",
    "PerTensor",
    "Quality",
    "Recipe",
    "Rule",
    "WeightSpec",
    "WeightedSpec",
    "as_name",
    "block_shape",
    "check_options",
    "from_json",
    "named",
    "renamed",
    "stored_bits",
    "to_json",
    "type_name",
    "warn_of",
    "with_quality",
]
