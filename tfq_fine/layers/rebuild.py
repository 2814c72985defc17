"""Copies of Keras models with some layers exchanged; the model itself and its weights stay as they are."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tfq_converters.errors import TfqError
from tfq_converters.reading.layers import inner_layers, layer_tree, nodes
from tfq_fine.layers.wrapped import is_wrapper

Exchange = Callable[[Any, str], Any]  # (copy of a layer, path of the original) -> what stands in its place


def rebuilt(model: Any, exchange: Exchange, unwrap: bool = False) -> Any:
    """A copy of a Sequential, Functional or subclassed model with its layers exchanged.

    Args:
        model: a built model.
        exchange: called for every layer, inner models aside, each once however often the model calls it.
        unwrap: whether wrappers are left out of the copy, and `exchange` gets what they wrap.

    Raises:
        TfqError: a layer or model cannot be copied.
    """
    import keras

    paths = {id(node.layer): node.path for node in nodes(layer_tree(model))}
    pairs: list[tuple[Any, Any]] = []

    def clone(layer: Any) -> Any:
        source = layer.layer if unwrap and is_wrapper(layer) else layer
        found = copied(source)
        if not isinstance(layer, keras.layers.Layer):  # a plain operation, such as a sum
            return found
        pairs.append((source, found))
        return exchange(found, paths.get(id(layer), layer.name))

    with known_classes(model):
        if is_graph(model):
            result = keras.models.clone_model(model, clone_function=clone, recursive=True)
        else:
            result = copied(model)
            pairs.append((model, result))
        for source, found in pairs:
            copy_weights(source, found)
        for source, found in pairs:
            _exchange_inside(found, paths.get(id(source), ""), exchange, unwrap)
    return result


def is_graph(model: Any) -> bool:
    """Whether `model` is Sequential or Functional: a graph of layers that can be walked."""
    return not {"Sequential", "Functional"}.isdisjoint(cls.__name__ for cls in type(model).__mro__)


@contextmanager
def known_classes(model: Any) -> Iterator[None]:
    """Let Keras find the classes of the model's layers, also those that nobody registered."""
    import keras

    classes = {type(layer) for layer in model._flatten_layers(recursive=True)}
    own = {cls.__name__: cls for cls in classes if not cls.__module__.startswith(("keras.", "tfq_fine."))}
    with keras.saving.custom_object_scope(own):
        yield


def copied(layer: Any) -> Any:
    """A layer or subclassed model of the same configuration, built where it can be.

    Raises:
        TfqError: its class cannot be made from its configuration.
    """
    import keras

    config = layer.get_config()
    try:
        found = type(layer).from_config(dict(config))
    except Exception as error:  # whatever the constructor of the user's class raises
        found = _without_base_arguments(layer, config, error)
    if isinstance(layer, keras.Model):
        found.build_from_config(layer.get_build_config())
        found.built = layer.built  # which Keras leaves False in a model that it built by running it
    return found


def _without_base_arguments(layer: Any, config: dict[str, Any], error: Exception) -> Any:
    """A layer of a class whose constructor does not take what every Keras layer takes."""
    taken = inspect.signature(type(layer).__init__).parameters
    try:
        return type(layer)(**{name: value for name, value in config.items() if name in taken})
    except Exception:
        raise TfqError(
            f"layer {layer.name!r} ({type(layer).__name__}) cannot be copied: {error}; "
            "give its class a get_config() that returns the arguments of its constructor"
        ) from error


def copy_weights(source: Any, found: Any) -> None:
    """Give a copy the weights of its original.

    Raises:
        TfqError: the copy has other weights.
    """
    before, after = float_weights(source), float_weights(found)
    if [tuple(w.shape) for w in before] != [tuple(w.shape) for w in after]:
        raise TfqError(
            f"layer {source.name!r} ({type(source).__name__}) cannot be copied: a layer of its configuration has "
            f"{len(after)} weights, it has {len(before)}"
        )
    for old, new in zip(before, after, strict=True):
        new.assign(old)
    found.name = source.name
    for old, new in zip(_inside(source), _inside(found), strict=False):  # names that Keras made up differ
        new.name = old.name


def _inside(layer: Any) -> Iterator[Any]:
    """The layers inside `layer`, wrappers passed over, in an order that does not depend on wrappers."""
    for child in inner_layers(layer):
        plain = child.layer if is_wrapper(child) else child
        yield plain
        yield from _inside(plain)


def float_weights(layer: Any) -> list[Any]:
    """The weights of a layer without those that wrappers inside it added."""
    wrapped = [inner for inner in layer._flatten_layers(recursive=True) if is_wrapper(inner)]
    own = {id(w) for wrapper in wrapped for w in wrapper.weights} - {
        id(w) for wrapper in wrapped for w in wrapper.layer.weights
    }
    return [w for w in layer.weights if id(w) not in own]


def _exchange_inside(layer: Any, path: str, exchange: Exchange, unwrap: bool) -> None:
    """Exchange the layers in the attributes of a custom layer or subclassed model."""
    import keras

    if is_wrapper(layer) or type(layer).__module__.startswith("keras."):
        return
    done: dict[int, Any] = {}

    def changed(value: Any) -> Any:
        if not isinstance(value, keras.layers.Layer):
            return value
        if id(value) not in done:
            inner = f"{path}/{value.name}" if path else value.name
            plain = value.layer if unwrap and is_wrapper(value) else value
            if not is_wrapper(plain):
                _exchange_inside(plain, inner, exchange, unwrap)
            done[id(value)] = exchange(plain, inner)
        return done[id(value)]

    for name, value in list(vars(layer).items()):
        if name.startswith("_") and name in vars(keras.layers.Layer()):
            continue
        if isinstance(value, keras.layers.Layer):
            new: Any = changed(value)
        elif isinstance(value, list | tuple) and any(isinstance(item, keras.layers.Layer) for item in value):
            new = (
                type(value)([changed(item) for item in value]) if type(value) is tuple else [changed(i) for i in value]
            )
        elif isinstance(value, dict) and any(isinstance(item, keras.layers.Layer) for item in value.values()):
            new = {key: changed(item) for key, item in value.items()}
        else:
            continue
        _put(layer, name, new)
    layer._layers = [done.get(id(inner), inner) for inner in dict.fromkeys(layer._layers)]


def _put(layer: Any, name: str, value: Any) -> None:
    """Set an attribute of a built layer; the list of its layers keeps its order."""
    kept = list(layer._layers)
    layer._tracker.unlock()
    setattr(layer, name, value)
    layer._tracker.lock()
    layer._layers = kept
