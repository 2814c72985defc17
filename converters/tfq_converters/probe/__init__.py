"""Measures the kernel table: every cell on every runtime that is installed, each in a child process.

`cases` says which cells, `operands` and `reference` what is right (in numpy, apart from any runtime), `build` makes the
files, `child` runs them, `verdict` judges, `run` holds it together.
"""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_converters.probe.cases import CELLS
    from tfq_converters.probe.run import present, probe, run_jobs
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "cases": "CELLS",
            "run": "present probe run_jobs",
        },
    )

__all__ = ["CELLS", "present", "probe", "run_jobs"]
