"""What calibration has to find out for a graph, or for a plan of it."""

from collections.abc import Sequence

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_converters.operators import data_of, facts_of, lstm, weight_axes
from tfq_converters.runtime import known_part
from tfq_fine.observation import Needs

FOR_ALGORITHMS = ("channel_absmax", "channel_mean", "second_moment")


def range_needs(graph: Graph) -> Needs:
    """The range of every float tensor of the main subgraph that is fed or computed, and the states of fused LSTMs."""
    main = known_part(graph).main
    computed = {*main.inputs} | {t for op in main.ops for t in op.outputs}
    fused = [o for o, op in enumerate(main.ops) if op.code == lstm.CODE and not lstm.unusual(op, main)]
    ranges = tuple((0, t) for t in sorted(computed) if main.tensors[t].dtype == "float32")
    return Needs(ranges=ranges, strains=tuple((0, o) for o in fused))


def mean_needs(graph: Graph) -> Needs:
    """The channel means of the input of every linear operator: for biases and for algorithms."""
    return algorithm_needs(graph, ("channel_mean",))


def algorithm_needs(graph: Graph, names: Sequence[str]) -> Needs:
    """What `names` say of the input of every linear operator of the main subgraph.

    Raises:
        TfqError: an unknown name.
    """
    unknown = [name for name in names if name not in FOR_ALGORITHMS]
    if unknown:
        raise TfqError(f"unknown statistics {', '.join(unknown)}; known: {', '.join(FOR_ALGORITHMS)}")
    main = known_part(graph).main
    linear = [o for o, op in enumerate(main.ops) if facts_of(op.code).linear and weight_axes(op, main)]
    data = {o: data_of(main.ops[o]) for o in linear}
    fed = {o: t for o, t in data.items() if not main.tensors[t].is_constant and main.tensors[t].shape}
    tensors = tuple(dict.fromkeys((0, t) for t in fed.values()))
    return Needs(
        means=tensors if "channel_mean" in names else (),
        absmax=tensors if "channel_absmax" in names else (),
        second_moments=tuple((0, o) for o in fed) if "second_moment" in names else (),
    )
