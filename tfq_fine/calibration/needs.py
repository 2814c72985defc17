"""The statistics that calibration gathers for a graph, or for a plan of it."""

from collections.abc import Collection, Mapping, Sequence

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, Subgraph
from tfq_converters.operators import data_of, lstm
from tfq_converters.quantized import TensorKey
from tfq_converters.runtime import known_ops
from tfq_fine.algorithms import has_statistics
from tfq_fine.calibration.instrument import StatisticsRequest

FOR_ALGORITHMS = ("channel_absmax", "channel_mean", "second_moment")


def range_needs(graph: Graph) -> StatisticsRequest:
    """Request the range of each float tensor of the main subgraph that is fed or computed, and fused LSTM states."""
    main, ops = graph.main, known_ops(graph)
    computed = {*main.inputs} | {t for o in ops for t in main.ops[o].outputs}
    fused = [o for o in ops if (op := main.ops[o]).code == lstm.CODE and not lstm.unusual(op, main)]
    ranges = tuple((0, t) for t in sorted(computed) if main.tensors[t].dtype == "float32")
    return StatisticsRequest(ranges=ranges, strains=tuple((0, o) for o in fused))


def mean_needs(graph: Graph) -> StatisticsRequest:
    """Return the channel means of the input of every linear operator: for biases and for algorithms."""
    return algorithm_needs(graph, ("channel_mean",))


def algorithm_needs(graph: Graph, names: Sequence[str]) -> StatisticsRequest:
    """Request what algorithms `names` read of the input of every linear operator of the main subgraph.

    Raises:
        TfqError: an unknown name.
    """
    unknown = [name for name in names if name not in FOR_ALGORITHMS]
    if unknown:
        raise TfqError(f"unknown statistics {', '.join(unknown)}; known: {', '.join(FOR_ALGORITHMS)}")
    return needs_of(graph.main, {o: names for o in known_ops(graph) if has_statistics(graph.main.ops[o], graph.main)})


def needs_of(main: Subgraph, reads: Mapping[int, Collection[str]]) -> StatisticsRequest:
    """Return the statistics that `reads` names of the inputs of operators, by operator."""

    def tensors(name: str) -> tuple[TensorKey, ...]:
        return tuple(dict.fromkeys((0, data_of(main.ops[o])) for o, names in reads.items() if name in names))

    moments = tuple((0, o) for o, names in reads.items() if "second_moment" in names)
    inputs = tuple((0, o) for o, names in reads.items() if "inputs" in names)
    return StatisticsRequest(
        means=tensors("channel_mean"), absmax=tensors("channel_absmax"), second_moments=moments, inputs=inputs
    )
