"""Placement: which operators compute in integers and which in float."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_fine.placement.float_islands import How, place, running_time, with_islands
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "float_islands": "How place running_time with_islands",
        },
    )

__all__ = [
    "How",
    "place",
    "running_time",
    "with_islands",
]
