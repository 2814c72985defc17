"""Layers exchanged inside a custom layer, a subclassed model or a TimeDistributed.

They are found in its attributes, and in lists and dicts of them.
"""

from collections.abc import Callable
from typing import Any

from tfq_converters.reading import layer_tree, nodes
from tfq_fine.layers.layer_table import is_repeated
from tfq_fine.layers.wrapped import is_wrapper

Exchange = Callable[[Any, str], Any]  # (a layer, its path) -> what stands in its place


def exchange_inside(layer: Any, path: str, exchange: Exchange, unwrap: bool = False) -> None:
    """Exchange what is inside `layer`, in place; layers and wrappers of Keras, TimeDistributed aside, stay unchanged.

    Args:
        layer: a custom layer or subclassed model that nobody else uses.
        path: its path; the paths of the layers inside begin with it.
        exchange: called for every layer inside, each once however often it is held.
        unwrap: whether wrappers are left out, and `exchange` gets what they wrap.
    """
    prefix = f"{path}/" if path else ""
    paths = {id(node.layer): prefix + node.path for node in nodes(layer_tree(layer))}
    _Walk(paths, exchange, unwrap).inside(layer)


def is_graph(model: Any) -> bool:
    """Return whether `model` is Sequential or Functional: a graph of layers that can be walked."""
    return not {"Sequential", "Functional"}.isdisjoint(cls.__name__ for cls in type(model).__mro__)


def is_custom(layer: Any) -> bool:
    """Return whether `layer` is of a class of the user's that keeps layers in attributes."""
    return not (is_wrapper(layer) or is_graph(layer) or type(layer).__module__.startswith("keras."))


class _Walk:
    def __init__(self, paths: dict[int, str], exchange: Exchange, unwrap: bool):
        self.paths, self.exchange, self.unwrap = paths, exchange, unwrap
        self.done: dict[int, tuple[Any, Any]] = {}  # id -> (layer, what stands in its place)

    def inside(self, layer: Any) -> None:
        """Exchange the layers that the attributes of a layer hold."""
        import keras

        if not (is_custom(layer) or is_repeated(layer)):
            return
        self.done[id(layer)] = layer, layer
        private = vars(keras.layers.Layer())
        for name, value in list(vars(layer).items()):
            if not (name.startswith("_") and name in private):
                new = self.held(value)
                if new is not value:
                    _put(layer, name, new)
        layer._layers = [self.done.get(id(inner), (inner, inner))[1] for inner in dict.fromkeys(layer._layers)]

    def held(self, value: Any) -> Any:
        """Return what replaces an attribute or an item; the same object where nothing changes."""
        import keras

        if isinstance(value, keras.layers.Layer):
            return self.layer(value)
        if isinstance(value, dict):
            new = {key: self.held(item) for key, item in value.items()}
            return value if all(new[key] is value[key] for key in value) else new
        if isinstance(value, list | tuple):
            items = [self.held(item) for item in value]
            if all(new is old for new, old in zip(items, value, strict=True)):
                return value
            if isinstance(value, list):
                return items
            return value._make(items) if hasattr(value, "_make") else tuple(items)  # a named tuple
        return value

    def layer(self, value: Any) -> Any:
        """Return what replaces a layer."""
        if id(value) not in self.done:
            plain = value.layer if self.unwrap and is_wrapper(value) else value
            self.done[id(value)] = value, plain
            self.inside(plain)
            if is_graph(plain):
                plain = self.graph(plain)
            self.done[id(value)] = value, self.exchange(plain, self.paths.get(id(value), value.name))
        return self.done[id(value)][1]

    def graph(self, model: Any) -> Any:
        """Return a Sequential or Functional model of the same layers, but for those that are exchanged."""
        import keras

        before = list(model._flatten_layers(include_self=False, recursive=False))
        if all(self.layer(inner) is inner for inner in before):
            return model
        return keras.models.clone_model(model, clone_function=self.held)


def _put(layer: Any, name: str, value: Any) -> None:
    """Set an attribute of a built layer; the list of its layers keeps its order."""
    kept = list(layer._layers)
    layer._tracker.unlock()
    setattr(layer, name, value)
    layer._tracker.lock()
    layer._layers = kept
