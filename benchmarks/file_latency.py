"""The time of files for one sample, in turns with the float file that they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np

from benchmarks.timing import Times, in_turns
from tfq_converters import flatbuffer
from tfq_fine.verification.side import Side

OPENINGS = 3


def time_files(paths: Mapping[str, Path], sample: np.ndarray, seconds: float) -> Times:
    """CPU time of one invocation of each file, default kernels, one thread.

    Every file is opened several times, since the place of its memory changes the time by some per cent.

    Args:
        paths: name -> file.
        sample: a real-valued input (1, *input).
        seconds: about how long to measure in all.
    """
    return reduce(add, (_opened_once(paths, sample, seconds / OPENINGS) for _ in range(OPENINGS)))


def _opened_once(paths: Mapping[str, Path], sample: np.ndarray, seconds: float) -> Times:
    return in_turns({name: _invocation(path, sample) for name, path in paths.items()}, seconds)


def _invocation(path: Path, sample: np.ndarray) -> Callable[[], object]:
    side = Side(flatbuffer.read(str(path)), str(path))
    encoded = side.encode([np.ascontiguousarray(sample)])
    return lambda: side.runner.invoke(encoded)
