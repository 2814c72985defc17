"""Inputs in the order in which the Keras model takes them: the stock converter gives them one of its own.

Data that comes as a list follows the model, so that of inputs of one shape none would notice that they are swapped.
"""

from dataclasses import replace

from tfq_converters import flatbuffer
from tfq_converters.graph import Graph, Signature
from tfq_converters.reading.conversion.convert import Conversion
from tfq_converters.reading.keras_models.call import KerasCall


def in_models_order(conversion: Conversion, call: KerasCall) -> Conversion:
    """Return the conversion with the inputs of its file in the order of the arguments of `call`."""
    if len(call.arguments) < 2:
        return conversion
    graph = conversion.graph
    ordered = graph
    for signature in graph.signatures:
        ordered = _ordered(ordered, signature, call)
    if [s.inputs for s in ordered.subgraphs] == [s.inputs for s in graph.subgraphs]:
        return conversion
    return replace(conversion, content=flatbuffer.write(ordered))


def _ordered(graph: Graph, signature: Signature, call: KerasCall) -> Graph:
    tensors = dict(signature.inputs)
    inputs = tuple(tensors[name] for name in call.order(list(tensors)))
    subgraphs = list(graph.subgraphs)
    subgraph = subgraphs[signature.subgraph]
    if sorted(inputs) == sorted(subgraph.inputs):  # the converter leaves out none
        subgraphs[signature.subgraph] = replace(subgraph, inputs=inputs)
    return replace(graph, subgraphs=tuple(subgraphs))
