"""Copies of Keras models with some layers exchanged; the model itself and its weights stay unchanged."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tfq_converters.errors import TfqError
from tfq_converters.reading import layer_tree, nodes
from tfq_fine.layers.inside import Exchange, exchange_inside, is_graph
from tfq_fine.layers.wrapped import as_plain, inner_names, is_wrapper, plain_class, rename


def rebuilt(model: Any, exchange: Exchange, unwrap: bool = False) -> Any:
    """Return a copy of a Sequential, Functional or subclassed model with its layers exchanged.

    Args:
        model: a built model.
        exchange: called for every layer, inner models aside, each once however often the model calls it, with a copy
            and the path of the original.
        unwrap: whether wrappers are left out of the copy, and `exchange` gets what they wrap.

    Raises:
        TfqError: a layer or model cannot be copied.
    """
    import keras

    paths = {id(node.layer): node.path for node in nodes(layer_tree(model))}
    pairs: list[tuple[Any, Any]] = []

    def clone(layer: Any) -> Any:
        source = layer.layer if unwrap and is_wrapper(layer) else layer
        target = copied(source)
        if not isinstance(layer, keras.layers.Layer):  # a plain operation, such as a sum
            return target
        pairs.append((source, target))
        return exchange(target, paths.get(id(layer), layer.name))

    with known_classes(model):
        if is_graph(model):
            inputs = _named_inputs(model)
            result = keras.models.clone_model(model, input_tensors=inputs, clone_function=clone, recursive=True)
        else:
            result = copied(model)
            pairs.append((model, result))
        for source, target in pairs:
            copy_weights(source, target)
        for source, target in pairs:
            exchange_inside(target, paths.get(id(source), ""), exchange, unwrap)
    return result


def _named_inputs(model: Any) -> Any:
    """Return inputs for a copy of a Functional model, named like their layers, as in a model that Keras saved.

    None for a Sequential model, whose copy makes its own.
    """
    import keras

    def named(tensor: Any) -> Any:
        layer = tensor._keras_history.operation
        return keras.Input(
            batch_shape=tensor.shape, dtype=tensor.dtype, sparse=tensor.sparse, ragged=tensor.ragged, name=layer.name
        )

    return None if isinstance(model, keras.Sequential) else keras.tree.map_structure(named, model.input)


@contextmanager
def known_classes(model: Any) -> Iterator[None]:
    """Let Keras find the classes of the model's layers, also those that nobody registered."""
    import keras

    classes = {plain_class(layer) for layer in model._flatten_layers(recursive=True)}
    own = {cls.__name__: cls for cls in classes if not cls.__module__.startswith(("keras.", "tfq_fine."))}
    with keras.saving.custom_object_scope(own):
        yield


def copied(layer: Any) -> Any:
    """Return a layer or subclassed model of the same configuration, built where it can be.

    Raises:
        TfqError: its class cannot be made from its configuration.
    """
    import keras

    with as_plain(layer):
        config = layer.get_config()
    try:
        twin = plain_class(layer).from_config(dict(config))
    except Exception as error:  # whatever the constructor of the user's class raises
        twin = _without_base_arguments(layer, config, error)
    if isinstance(layer, keras.Model):
        with as_plain(layer):
            twin.build_from_config(layer.get_build_config())
        twin.built = layer.built  # which Keras leaves False in a model that it built by running it
    return twin


def _without_base_arguments(layer: Any, config: dict[str, Any], error: Exception) -> Any:
    """Return a layer of a class whose constructor does not take what every Keras layer takes."""
    taken = inspect.signature(plain_class(layer).__init__).parameters
    try:
        return plain_class(layer)(**{name: value for name, value in config.items() if name in taken})
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
    rename(found, inner_names(source))


def float_weights(layer: Any) -> list[Any]:
    """Return the weights of a layer without those that wrappers inside it added."""
    wrapped = [inner for inner in layer._flatten_layers(recursive=True) if is_wrapper(inner)]
    own = {id(w) for wrapper in wrapped for w in wrapper.weights} - {
        id(w) for wrapper in wrapped for w in wrapper.layer.weights
    }
    return [w for w in layer.weights if id(w) not in own]
