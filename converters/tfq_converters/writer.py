"""From numbers to a file: realize, pack, run, hand over. Nothing leaves here that has not been run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.graph import Graph
from tfq_converters.quantized import QuantizedGraph
from tfq_converters.realize import realize
from tfq_converters.run_check import Checked, run_check
from tfq_converters.versions import METADATA, min_runtime_version


@dataclass(frozen=True)
class Written:
    """A file that has been run, and what the run showed."""

    content: bytes
    graph: Graph
    checked: Checked


def write(
    quantized: QuantizedGraph,
    samples: Sequence[Sequence[np.ndarray]],
    others: Mapping[str, Sequence[np.ndarray]] | None = None,
) -> Written:
    """The `.tflite` file of `quantized`, executed on `samples` on the default and the reference kernels.

    Args:
        quantized: the numbers.
        samples: float inputs of the main subgraph.
        others: key of a signature on another subgraph -> its inputs, in its order.

    Raises:
        TfqError: the file does not compute what the numbers say; see `run_check`.
    """
    realized = realize(quantized)
    metadata = dict(realized.graph.metadata)
    metadata[METADATA] = min_runtime_version(realized.graph, metadata.get(METADATA))
    realized = replace(realized, graph=replace(realized.graph, metadata=metadata))
    content = flatbuffer.write(realized.graph)
    return Written(content, realized.graph, run_check(quantized, realized, content, samples, others))
