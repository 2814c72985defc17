"""Measures the kernel table: every cell on every runtime that is installed, each in a child process.

`cases` says which cells, `operands` and `reference` what is right (in numpy, apart from any runtime), `build` makes the
files, `child` runs them, `verdict` judges, `run` holds it together.
"""

from tfq_converters.probe.cases import CELLS
from tfq_converters.probe.run import present, probe, run_jobs
from tfq_converters.probe.runtimes import VARIANTS

__all__ = ["CELLS", "VARIANTS", "present", "probe", "run_jobs"]
