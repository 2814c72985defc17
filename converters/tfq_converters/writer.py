"""Makes a file of the numbers: realize, pack, run, hand over. Nothing leaves here that has not been run."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

from tfq_converters import flatbuffer
from tfq_converters.check import Checked, run_check
from tfq_converters.graph import AnyArray, Graph, Tensor
from tfq_converters.operators import METADATA, min_runtime_version
from tfq_converters.quantized import QuantizedGraph
from tfq_converters.realize import Realized, realize
from tfq_converters.runtime import Runs, waiting

LARGE = 2**28  # bytes of constants beyond which the file is not held next to its graph


@dataclass(frozen=True)
class Written:
    """A file that has been run, and what the run showed."""

    graph: Graph
    checked: Checked
    nbytes: int
    content: bytes | None  # None for a large file: `flatbuffer.pieces` writes it without holding it twice


def write(
    quantized: QuantizedGraph,
    samples: Sequence[Sequence[AnyArray]],
    others: Mapping[str, Sequence[AnyArray]] | None = None,
    runs: Runs | None = None,
) -> Written:
    """Return the `.tflite` file of `quantized`, executed on `samples` on the default and the reference kernels.

    Args:
        quantized: the numbers.
        samples: float inputs of the main subgraph.
        others: key of a signature on another subgraph -> its inputs, in its order.
        runs: a process that waits for the file (`child_runs.waiting`); started here when None.

    Raises:
        TfqError: the file does not compute what the numbers say; see `run_check`.
    """
    with waiting() if runs is None else nullcontext(runs) as ready:
        realized = _realized(quantized)
        constants = sum(tensor.data.nbytes for tensor in _tensors(realized.graph) if tensor.data is not None)
        content = flatbuffer.write(realized.graph) if constants <= LARGE else None
        checked = run_check(quantized, realized, content, samples, others, ready)
    nbytes = sum(len(piece) for piece in flatbuffer.pieces(realized.graph)) if content is None else len(content)
    return Written(realized.graph, checked, nbytes, content)


def size_of(quantized: QuantizedGraph) -> int:
    """Return the bytes of the file of `quantized`, which is not run."""
    return sum(len(piece) for piece in flatbuffer.pieces(_realized(quantized).graph))


def _realized(quantized: QuantizedGraph) -> Realized:
    """Return the graph of the file, with the oldest runtime that runs it among its metadata."""
    realized = realize(quantized)
    metadata = dict(realized.graph.metadata)
    metadata[METADATA] = min_runtime_version(realized.graph, metadata.get(METADATA))
    return replace(realized, graph=replace(realized.graph, metadata=metadata))


def _tensors(graph: Graph) -> Iterator[Tensor]:
    for subgraph in graph.subgraphs:
        yield from subgraph.tensors
