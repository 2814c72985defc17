"""Activations: their encodings, and how their ranges are chosen."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_fine.activations import search_ranges
    from tfq_fine.activations.attention_masks import bounded, has_masks
    from tfq_fine.activations.borders import integer_borders, left_float
    from tfq_fine.activations.choose_encodings import (
        Encodings,
        Node,
        data_slots,
        encodings,
        float_outputs,
        groups,
        keeps_positive,
        tensor_range,
    )
    from tfq_fine.activations.implied_ranges import with_implied, without_range
    from tfq_fine.activations.learnable_scales import learnable_groups
    from tfq_fine.activations.observed_ranges import activation_needs, requested_specs
    from tfq_fine.activations.plan_encodings import EncodedPlan, encoded_plan
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "attention_masks": "bounded has_masks",
            "borders": "integer_borders left_float",
            "choose_encodings": "Encodings Node data_slots encodings float_outputs groups keeps_positive tensor_range",
            "plan_encodings": "EncodedPlan encoded_plan",
            "learnable_scales": "learnable_groups",
            "implied_ranges": "with_implied without_range",
            "observed_ranges": "activation_needs requested_specs",
            "search_ranges": "search_ranges",
        },
    )

__all__ = [
    "EncodedPlan",
    "Encodings",
    "Node",
    "activation_needs",
    "bounded",
    "data_slots",
    "encoded_plan",
    "encodings",
    "float_outputs",
    "groups",
    "has_masks",
    "integer_borders",
    "keeps_positive",
    "learnable_groups",
    "left_float",
    "requested_specs",
    "search_ranges",
    "tensor_range",
    "with_implied",
    "without_range",
]
