"""Finds the layers that make the outputs of a model: the converter names those tensors `StatefulPartitionedCall:0`."""

from typing import Any

from tfq_converters.graph import Graph, Op
from tfq_converters.operators import fused_activation
from tfq_converters.reading.keras_models.call import keras_call
from tfq_converters.reading.keras_models.layers import Node, nodes
from tfq_converters.reading.keras_models.load import keras_framework

IDLE = (
    "Dropout",
    "GaussianNoise",
    "ActivityRegularization",
    "Identity",
)  # ends of the names of classes without operators
ACTIVATIONS = ("ReLU", "Activation")  # classes that the converter fuses into the operator before


def last_layers(graph: Graph, keras_model: Any, tree: Node) -> dict[tuple[int, int], str]:
    """Return operators that write an output of a signature -> the path of the layer that makes this output.

    Empty for subclassed models, which declare no outputs.
    """
    if not getattr(keras_model, "outputs", None):
        return {}
    paths = {id(node.layer): node.path for node in nodes(tree)}
    call = keras_call(keras_model, keras_framework(keras_model))
    makers = {}
    for signature in graph.signatures:
        subgraph = graph.subgraphs[signature.subgraph]
        producers = subgraph.producers()
        names = [name for name, _ in signature.outputs]
        if len(names) != len(keras_model.outputs):
            continue  # a signature of something else
        tensors = call.by_signature(call.declared_outputs(), names)
        for name, index in signature.outputs:
            if index in producers:
                maker = _maker(tensors[name], subgraph.ops[producers[index]])
                if id(maker) in paths:
                    makers[signature.subgraph, producers[index]] = paths[id(maker)]
    return makers


def _maker(tensor: Any, op: Op) -> Any:
    """Return the layer whose operator wrote `tensor`, before idle layers and fused activations; inner models too."""
    layer, node_index, tensor_index = tensor._keras_history
    kind = type(layer).__name__
    fused = fused_activation(op) != "NONE"
    if kind.endswith(IDLE) or (fused and kind in ACTIVATIONS):
        inputs = layer._inbound_nodes[node_index].input_tensors
        return _maker(inputs[0] if isinstance(inputs, list | tuple) else inputs, op)
    if getattr(layer, "outputs", None) and getattr(layer, "layers", None):
        return _maker(layer.outputs[tensor_index], op)
    return layer
