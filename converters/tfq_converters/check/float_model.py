"""One run of the float model, in segments, that shows the values of all its tensors on a few samples.

The first sample's values are put aside, for the run check to compare the file with.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tfq_converters.check.simulate import float_values
from tfq_converters.graph import AnyArray, Float32Array, Graph
from tfq_converters.runtime import Runs, runnable_part, stand_ins

Sample = Sequence[AnyArray]
See = Callable[[int, Float32Array], None]  # (tensor, its value for one sample), the samples in their order


@dataclass(frozen=True)
class FloatRun:
    """Names the values that were put aside."""

    graph: Graph
    tensors: tuple[int, ...]  # those of the main subgraph, in the order in which they are computed
    samples: int  # whose values they are, the first ones
    seconds: float = 0.0  # that one sample took

    def name(self, sample: int, tensor: int) -> str:
        """Return the name of an array that `Runs.kept` has."""
        return f"float_{sample}_{tensor}"


def float_run(
    graph: Graph, samples: Sequence[Sample], runs: Runs | None, kept: int = 1, see: See | None = None, threads: int = 1
) -> FloatRun:
    """Run the float graph; what no runtime executes is cut out of it.

    Args:
        graph: the float graph.
        samples: inputs of the main subgraph.
        runs: where values are put aside, on disk; nowhere when None.
        kept: the values of so many samples.
        see: called with every float tensor that is computed; the array is overwritten after it returns.
        threads: the number of threads of the interpreter.
    """
    fed = [[*sample, *stand_ins(graph)] for sample in samples]
    done = FloatRun(graph, (), kept if runs is not None else 0)
    order: dict[int, None] = {}

    def each(n: int, t: int, value: AnyArray) -> None:
        if value.dtype != np.float32:
            return
        order[t] = None
        if runs is not None and n < kept:
            runs.keep(done.name(n, t), value)
        if see is not None:
            see(t, value)

    start = time.perf_counter()
    float_values(runnable_part(graph), fed, each, threads)
    seconds = (time.perf_counter() - start) / max(1, len(samples))
    return replace(done, tensors=tuple(order), seconds=seconds)
