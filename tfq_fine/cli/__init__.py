"""The command line: `tfq-fine quantize`, `verify`, `inspect`, `recipes` and `kernels`.

Exit codes: 0 done, 1 verification fell short, 2 bad usage or input, 70 a defect of the program, 130 interrupted.
"""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_fine.cli.program import main
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "program": "main",
        },
    )

__all__ = [
    "main",
]
