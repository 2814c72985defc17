"""Which operator of a float graph makes the first NaN or infinity of a sample."""

from contextlib import suppress

import numpy as np

from tfq_converters.check import float_run
from tfq_converters.errors import TfqError
from tfq_converters.graph import Float32Array, Graph
from tfq_fine.calibration.kept_samples import Sample


def first_not_finite(graph: Graph, inputs: Sample) -> int | None:
    """Return the operator of the main subgraph that is the first to give NaN or infinity; None when none does.

    Calibration sees only the tensors whose ranges are asked for, and REDUCE_MIN and REDUCE_MAX skip NaN, so that it
    may notice an operator later what the first one made. This runs the graph once more and looks at every value.

    Args:
        graph: the float graph.
        inputs: the inputs of the main subgraph.
    """
    producers = graph.main.producers()
    bad: list[int] = []

    def see(t: int, value: Float32Array) -> None:
        if t in producers and not np.isfinite(value).all():
            bad.append(producers[t])

    with suppress(TfqError):  # the rest may not run on such values
        float_run(graph, [inputs], None, see=see)
    return min(bad, default=None)
