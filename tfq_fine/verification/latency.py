"""How long two files take for the same inputs: interleaved, so that a busy machine slows both alike."""

import statistics
import time
from collections.abc import Sequence

import numpy as np

from tfq_fine.report import Latency
from tfq_fine.verification.side import Side

WARM_UP = 2  # runs of each that are not counted
FEWEST, MOST = 3, 1000  # counted runs of each


def compare_latency(
    floating: tuple[Side, Sequence[np.ndarray]],
    quantized: tuple[Side, Sequence[np.ndarray]],
    batch_size: int,
    seconds: float = 2.0,
) -> Latency:
    """Median time of one invocation of each, measured in alternation, the first of each pair alternating too.

    Args:
        floating: the float file and its inputs, as real values in its input order.
        quantized: the same of the quantized file.
        batch_size: samples in the inputs.
        seconds: about how long to measure in all.
    """
    sides = [(side.runner, side.encode(inputs)) for side, inputs in (floating, quantized)]
    start = time.perf_counter()
    for runner, inputs in sides * WARM_UP:
        runner.invoke(inputs)
    times: tuple[list[float], list[float]] = ([], [])
    while len(times[0]) < FEWEST or (len(times[0]) < MOST and time.perf_counter() - start < seconds):
        for which in (0, 1) if len(times[0]) % 2 else (1, 0):
            runner, inputs = sides[which]
            before = time.perf_counter()
            runner.invoke(inputs)
            times[which].append(1e3 * (time.perf_counter() - before))
    before_ms, after_ms = statistics.median(times[0]), statistics.median(times[1])
    return Latency(before_ms, after_ms, after_ms / before_ms, len(times[0]), batch_size, floating[0].threads)
