"""Finds the Keras layer of each operator: by the values of its constants, by names, by its neighbours."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tfq_converters.graph import Graph, Op, Subgraph
from tfq_converters.reading.keras_models.layers import LayerInfo, layer_table, layer_tree, table_of
from tfq_converters.reading.layer_names.names import Resolver, resolver, weights
from tfq_converters.reading.layer_names.neighbours import spread
from tfq_converters.reading.layer_names.outputs import last_layers
from tfq_converters.reading.layer_names.plain_names import layer_from_names
from tfq_converters.reading.layer_names.weights import OpKey, match_weights

__all__ = [
    "LayerInfo",
    "Provenance",
    "attach_layers",
    "layer_from_names",
    "layer_table",
    "named_layers",
    "trace_layers",
]


@dataclass(frozen=True)
class Provenance:
    """A graph that knows its layers, and the layers."""

    graph: Graph
    layers: Mapping[str, LayerInfo]
    notes: tuple[str, ...] = ()


def attach_layers(graph: Graph, keras_model: Any) -> Graph:
    """Return `graph` with the layer of every operator set, as a path (`mha/query`).

    A layer that is called several times is the layer of several operators. Of layers with equal values, which the
    converter merges, the one that the tensor's name tells is the layer (see `LayerInfo.merged_into` for the others).
    Operators that belong to no layer keep the name that TensorFlow gave them.

    Args:
        graph: what the converter made of the model.
        keras_model: a built Keras 3 or tf_keras model.
    """
    return trace_layers(graph, keras_model).graph


def trace_layers(graph: Graph, keras_model: Any) -> Provenance:
    """Do what `attach_layers` does; also return the table of the layers and notes on merged ones."""
    tree = layer_tree(keras_model)
    names = resolver(tree, (tensor.name for subgraph in graph.subgraphs for tensor in subgraph.tensors))
    held = match_weights(graph, tree)
    told = {key: _told(names, graph.subgraphs[key[0]], op) for key, op in graph.ops()}
    last = last_layers(graph, keras_model, tree)
    chosen = {key: _chosen(held.get(key, ()), told[key] or last.get(key, "")) for key in told}
    layers = spread(graph, {key: path for key, path in chosen.items() if path})
    merged = _merged(held, layers)
    notes = tuple(
        f"layer {lost!r} holds the same values as {kept!r} and was merged into it by the converter: rules name {kept!r}"
        for lost, kept in merged.items()
    )
    return Provenance(with_layers(graph, layers), table_of(tree, merged), notes)


def with_layers(graph: Graph, layers: Mapping[OpKey, str]) -> Graph:
    """Return `graph` with `Op.layer` set from `layers`."""

    def named(number: int, subgraph: Subgraph) -> Subgraph:
        ops = (replace(op, layer=layers.get((number, index), op.layer)) for index, op in enumerate(subgraph.ops))
        return replace(subgraph, ops=tuple(ops))

    return replace(graph, subgraphs=tuple(named(n, subgraph) for n, subgraph in enumerate(graph.subgraphs)))


def _told(names: Resolver, subgraph: Subgraph, op: Op) -> str:
    """Return the layer that the names of an operator's outputs tell, else those of its constants."""
    for index in (*op.outputs, *weights(subgraph, op)):
        layer = names.layer(subgraph.tensors[index].name, op.code)
        if layer:
            return layer
    return ""


def _chosen(holders: tuple[str, ...], told: str) -> str:
    """Return the layer that an operator's name tells, among those that hold its kernel if there are any."""
    if not holders or told in holders:
        return told
    return next((path for path in holders if path.startswith(f"{told}/")), holders[0])


def _merged(held: Mapping[OpKey, tuple[str, ...]], layers: Mapping[OpKey, str]) -> dict[str, str]:
    """Return each layer without an operator of its own -> the layer whose operator holds its values."""
    present = set(layers.values())
    return {
        path: layers[key] for key, holders in held.items() for path in holders if path not in present and layers[key]
    }


def named_layers(graph: Graph) -> dict[str, LayerInfo]:
    """Return a table of the layers that operators of `graph` name, for graphs without a Keras model."""
    return {op.layer: LayerInfo(op.layer, "") for _, op in graph.ops() if op.layer}
