"""Custom layers and subclassed models that hold wrappers inside: Keras saves them together with their wrappers.

Keras saves such an object as its class and configuration, which know nothing of attributes that were exchanged. It gets
a class derived from its own, which adds the wrappers to the configuration and puts them back when it is loaded.
"""

import inspect
from functools import cache
from typing import Any

import keras

from tfq_converters.reading import layer_tree, nodes
from tfq_fine.layers.inside import exchange_inside, is_custom
from tfq_fine.layers.wrapped import (
    WRAPPER,
    as_plain,
    inner_names,
    is_wrapper,
    plain_class,
    rename,
    wrappers,
)

PACKAGE, NAME = "tfq_fine", "FineQuantizeHolder"  # under which Keras finds the class, whatever it derives from
COMMON = ("name", "trainable", "dtype", "activity_regularizer", "autocast")  # in the configuration of every layer


class FineQuantizeHolder:
    """The additions to the class of an object that has wrappers inside."""

    def get_config(self) -> dict[str, Any]:
        """Return the object's own configuration, the names of its layers, and the wrappers by their paths."""
        with as_plain(self):
            plain = keras.saving.serialize_keras_object(self)
        plain.pop("compile_config", None)  # which Keras saves of this object too
        if not isinstance(self, keras.Model) and plain_class(self).build is keras.layers.Layer.build:
            plain.pop("build_config", None)  # its first call builds it, and nothing before that: Keras would warn
        plain["config"] = _taken(plain_class(self), plain["config"])
        inner = {node.path: node.layer for node in nodes(layer_tree(self)) if is_wrapper(node.layer)}
        return {
            "object": plain,
            "names": inner_names(self),
            "wrappers": {path: {"config": w.own_config(), "inputs": w.inputs} for path, w in inner.items()},
        }

    def get_build_config(self) -> None:
        """Return None: it is built while of its own class, as before wrappers came into it."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Return the object, made by its own class, with its wrappers in their places."""
        made = keras.saving.get_registered_object(f"{PACKAGE}>{WRAPPER}")
        plain = getattr(cls, "plain_class", None)  # where the class is at hand, as in `clone_model`
        own = {} if plain is None else {plain.__name__: plain}
        restored = keras.saving.deserialize_keras_object(config["object"], custom_objects=own)
        rename(restored, config["names"])

        def wrapped(layer: Any, path: str) -> Any:
            config_of = config["wrappers"].get(path)
            if config_of is None or is_wrapper(layer):  # which the object's own configuration held already
                return layer
            wrapper = made.from_config({**config_of["config"], "layer": layer})
            if layer.built:
                wrapper.build(config_of["inputs"])
            return wrapper

        exchange_inside(restored, "", wrapped)
        hold(restored)
        return restored


def hold(model: Any) -> None:
    """Let every object of the user's in `model` that has wrappers inside be saved with them."""
    for layer in model._flatten_layers(recursive=True):
        if is_custom(layer) and wrappers(layer):
            object.__setattr__(layer, "__class__", _holder_class(plain_class(layer)))


def _taken(plain: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration without common Keras arguments that the layer's constructor does not take."""
    taken = inspect.signature(plain.__init__).parameters
    any_name = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in taken.values())
    if any_name or not plain.from_config.__module__.startswith("keras."):
        return config
    return {name: value for name, value in config.items() if name in taken or name not in COMMON}


@cache
def _holder_class(plain: type) -> type:
    """Return a class equal to `plain`, except that Keras's saving finds `FineQuantizeHolder` as its name."""
    names = {"__module__": plain.__module__, "__qualname__": plain.__qualname__, "plain_class": plain}
    holder = type(plain.__name__, (FineQuantizeHolder, plain), names)
    _register(holder)
    _register(FineQuantizeHolder)
    return holder


def _register(cls: type) -> None:
    keras.saving.register_keras_serializable(PACKAGE, NAME)(cls)


_register(FineQuantizeHolder)
