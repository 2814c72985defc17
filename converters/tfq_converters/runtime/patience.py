"""How long to wait for a process that runs a file: a stopped or endless one must not block the user's."""

import time

import numpy as np

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph

LEAST = 60.0  # seconds, for starting and loading on a busy machine
FACTOR = 1000.0  # times the float model's: the reference kernels take up to some hundred times as long
PER_SECOND, LOOPS = 1e10, 1000  # products of a float model on one core; rounds of a loop
STEP = 1.0  # seconds that one look counts at most: a user who stops this process and goes on later loses nothing


def limit_of(float_seconds: float, timeout: float | None) -> float:
    """Return the seconds that one run of a file may take.

    Args:
        float_seconds: the time of the float model.
        timeout: the limit that the user gave; None to scale it with `float_seconds`.
    """
    return LEAST + FACTOR * float_seconds if timeout is None else timeout


def float_seconds(graph: Graph, samples: int) -> float:
    """Estimate the seconds of a float model on this kind of machine: its products by weights, at `PER_SECOND`.

    Nobody knows how often a loop runs: its body counts `LOOPS` times.
    """
    products = 0.0
    for s, subgraph in enumerate(graph.subgraphs):
        for op in subgraph.ops:
            shapes = [subgraph.tensors[t].shape for t in op.outputs]
            elements = sum(float(np.prod(shape)) for shape in shapes)
            rows = elements / max(1, shapes[0][-1]) if shapes and shapes[0] else 1.0
            weights = [subgraph.tensors[t] for t in op.inputs if t >= 0 and subgraph.tensors[t].is_constant]
            largest = max((float(np.prod(weight.shape)) for weight in weights), default=0.0)
            products += (elements + rows * largest) * (LOOPS if s else 1)
    return samples * products / PER_SECOND


def check_timeout(timeout: float | None) -> None:
    """Raise unless `timeout` is None or a positive number of seconds.

    Raises:
        TfqError: it is something else.
    """
    if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):  # NaN is not
        raise TfqError(
            f"timeout={timeout!r}: expected seconds above 0, or None to scale it with the float model's time"
        )


class Clock:
    """Counts the seconds that were waited."""

    def __init__(self) -> None:
        self.waited = 0.0
        self._last = time.monotonic()

    def look(self) -> float:
        """Return the seconds waited so far, without those in which this process did not run itself."""
        now = time.monotonic()
        self.waited += min(now - self._last, STEP)
        self._last = now
        return self.waited
