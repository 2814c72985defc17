"""The layers of a Keras model as a tree of plain names."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class LayerInfo:
    """The facts about one layer that a recipe needs."""

    name: str  # its path: `conv_1`, or `block/conv` for a layer inside a layer
    class_name: str  # "" when it is not known
    merged_into: str = ""  # the layer with equal values that its operators were merged into by the converter


@dataclass(frozen=True)
class Node:
    """A layer and the layers inside it. A layer that is used in two places is one node."""

    path: str
    layer: Any
    children: dict[str, "Node"] = field(default_factory=dict)  # by the names that name scopes show


def layer_tree(model: Any) -> Node:
    """Return the model as a tree; its own path is "".

    The cells of a recurrent layer belong to the layer: users know `lstm`, not `lstm/lstm_cell`.
    """
    return _grow(model, "", {})


def _grow(layer: Any, path: str, seen: dict[int, Node]) -> Node:
    node = Node(path, layer)
    seen[id(layer)] = node
    if is_recurrent(layer):
        return node
    for child in inner_layers(layer):
        if type(child).__name__ == "InputLayer":
            continue
        name = child.name if child.name not in node.children else f"{child.name}#{len(node.children)}"
        child_path = f"{path}/{name}" if path else name
        node.children[name] = seen.get(id(child)) or _grow(child, child_path, seen)
    return node


def is_recurrent(layer: Any) -> bool:
    """Return whether `layer` runs a cell over time."""
    return "RNN" in {cls.__name__ for cls in type(layer).__mro__}


def inner_layers(layer: Any) -> list[Any]:
    """Return the layers directly inside `layer`, in lists and dicts of its attributes too."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def nodes(tree: Node) -> Iterator[Node]:
    """Yield all layers below `tree`, each once, outer before inner."""
    visited: set[str] = set()
    ahead = [tree]
    while ahead:
        node = ahead.pop(0)
        if node.path not in visited:
            visited.add(node.path)
            if node.path:
                yield node
            ahead.extend(node.children.values())


def layer_table(keras_model: Any) -> dict[str, LayerInfo]:
    """Return every layer by its path (`block/conv`), and by its own name (`conv`) where only one layer has it.

    Args:
        keras_model: a built Keras 3 or tf_keras model.
    """
    return table_of(layer_tree(keras_model), {})


def table_of(tree: Node, merged: Mapping[str, str]) -> dict[str, LayerInfo]:
    """Return `layer_table` of a tree; `merged` maps a layer's path to that of the layer it was merged into."""
    table = {
        node.path: LayerInfo(node.path, type(node.layer).__name__, merged.get(node.path, "")) for node in nodes(tree)
    }
    leaves: dict[str, list[LayerInfo]] = {}
    for path, info in table.items():
        leaves.setdefault(path.rsplit("/", 1)[-1], []).append(info)
    unique = {name: infos[0] for name, infos in leaves.items() if len(infos) == 1}
    return {**unique, **table}


def own_weights(node: Node) -> list[Any]:
    """Return the variables of a layer that no layer inside it holds."""
    inner = {id(weight) for child in node.children.values() for weight in child.layer.weights}
    return [weight for weight in node.layer.weights if id(weight) not in inner]
