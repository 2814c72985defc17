"""Layers for the operators whose own constants and names tell none: those of their neighbours."""

from collections import Counter
from collections.abc import Mapping

from tfq_converters.graph import ABSENT, Graph, Op, Subgraph
from tfq_converters.reading.layer_names.names import parts

OpKey = tuple[int, int]
REFERENCES = ("SubgraphIndex", "subgraph")  # ends of the names of options that refer to another subgraph


def spread(graph: Graph, known: Mapping[OpKey, str]) -> dict[OpKey, str]:
    """Give every operator a layer: `known`, else its loop's, its own TensorFlow name, its neighbours', a made-up one.

    Args:
        graph: the graph.
        known: the layers found so far; operators without one are missing.
    """
    layers = dict(known)
    _through_calls(graph, layers)
    for key, op in graph.ops():
        name = own_name(graph.subgraphs[key[0]], op)
        if name:
            layers.setdefault(key, name)
    for number, subgraph in enumerate(graph.subgraphs):
        _from_producers(number, subgraph, layers)
        _from_consumers(number, subgraph, layers)
    _through_calls(graph, layers)
    return {key: layers.get(key, f"{op.code.lower()}_{key[1]}") for key, op in graph.ops()}


def _through_calls(graph: Graph, layers: dict[OpKey, str]) -> None:
    """Give a loop the layer of most operators inside it, and what is inside it the layer of the loop."""
    callers = _callers(graph)
    inside: dict[OpKey, Counter[str]] = {}
    for (number, _), layer in layers.items():
        if number in callers:
            inside.setdefault(callers[number], Counter())[layer] += 1
    for caller, counts in inside.items():
        layers.setdefault(caller, counts.most_common(1)[0][0])
    for (number, index), _ in graph.ops():
        if number in callers and callers[number] in layers:
            layers.setdefault((number, index), layers[callers[number]])


def own_name(subgraph: Subgraph, op: Op) -> str:
    """Return the name of the operation without that of the model around it, "" when the converter made the name up."""
    for output in op.outputs:
        for scopes, operation in parts(subgraph.tensors[output].name):
            if scopes:
                return "/".join((*scopes[1:], operation))
    return ""


def _from_producers(number: int, subgraph: Subgraph, layers: dict[OpKey, str]) -> None:
    producers = subgraph.producers()
    for index, op in enumerate(subgraph.ops):
        before = ((number, producers[tensor]) for tensor in op.inputs if tensor != ABSENT and tensor in producers)
        layer = next((layers[key] for key in before if key in layers), "")
        if layer:
            layers.setdefault((number, index), layer)


def _from_consumers(number: int, subgraph: Subgraph, layers: dict[OpKey, str]) -> None:
    consumers = subgraph.consumers()
    for index in reversed(range(len(subgraph.ops))):
        after = ((number, user) for tensor in subgraph.ops[index].outputs for user, _ in consumers.get(tensor, []))
        layer = next((layers[key] for key in after if key in layers), "")
        if layer:
            layers.setdefault((number, index), layer)


def _callers(graph: Graph) -> dict[int, OpKey]:
    """Return subgraph -> the operator that runs it."""
    return {
        value: key
        for key, op in graph.ops()
        if op.options is not None
        for option, value in op.options.values.items()
        if option.endswith(REFERENCES) and isinstance(value, int) and value >= 0
    }
