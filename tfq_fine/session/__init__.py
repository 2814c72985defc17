"""The stages of one job, from a model that was read to a file and its report."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_fine.session import signatures
    from tfq_fine.session.opening import OpenModel, open_model
    from tfq_fine.session.stages import (
        Decided,
        PlannedModel,
        QuantizationRequest,
        decide,
        gathered,
        judged_file,
        measured_layers,
        policy_of,
        prepare,
        reported,
        with_observer,
    )
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "signatures": "signatures",
            "opening": "OpenModel open_model",
            "stages": "Decided PlannedModel QuantizationRequest decide gathered judged_file measured_layers policy_of "
            "prepare reported with_observer",
        },
    )

__all__ = [
    "Decided",
    "OpenModel",
    "PlannedModel",
    "QuantizationRequest",
    "decide",
    "gathered",
    "judged_file",
    "measured_layers",
    "open_model",
    "policy_of",
    "prepare",
    "reported",
    "signatures",
    "with_observer",
]
