"""The command line: `tfq-fine quantize`, `verify`, `inspect`, `recipes` and `kernels`.

Exit codes: 0 done, 1 verification fell short, 2 bad usage or input, 70 a defect of the program, 130 interrupted.
"""

from tfq_fine.cli.program import main

__all__ = ["main"]
