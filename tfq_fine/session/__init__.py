"""The stages of one job, from a model that was read to a file and its report."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_fine.session import signatures
    from tfq_fine.session.stages import (
        Order,
        decide,
        gathered,
        judged_file,
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
            "stages": "Order decide gathered judged_file policy_of prepare reported with_observer",
        },
    )

__all__ = [
    "Order",
    "decide",
    "gathered",
    "judged_file",
    "policy_of",
    "prepare",
    "reported",
    "signatures",
    "with_observer",
]
