"""Verification of a quantized file: it and the float model run side by side on the same samples."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_fine.verification.side import file_size
    from tfq_fine.verification.side_by_side import verify
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "side": "file_size",
            "side_by_side": "verify",
        },
    )

__all__ = [
    "file_size",
    "verify",
]
