"""The run check: a finished file is run and compared, operator by operator, with what its numbers say."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_converters.check.comparison import decoded
    from tfq_converters.check.float_model import float_run
    from tfq_converters.check.noise import comparable, nan_as_worst, sqnr, sqnr_db
    from tfq_converters.check.run import Checked, encoded, run_check
    from tfq_converters.check.simulate import checkable
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "comparison": "decoded",
            "float_model": "float_run",
            "noise": "comparable nan_as_worst sqnr sqnr_db",
            "run": "Checked encoded run_check",
            "simulate": "checkable",
        },
    )

__all__ = [
    "Checked",
    "checkable",
    "comparable",
    "decoded",
    "encoded",
    "float_run",
    "nan_as_worst",
    "run_check",
    "sqnr",
    "sqnr_db",
]
