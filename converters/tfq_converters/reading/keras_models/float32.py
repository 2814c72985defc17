"""Keras models of another float type (mixed_float16, mixed_bfloat16, float16, bfloat16, float64), rebuilt in float32.

The weights are copied: mixed policies keep theirs in float32 anyway. The model that was given stays unchanged.
"""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from tfq_converters.errors import TfqError
from tfq_converters.reading.keras_models.layers import Node, layer_tree, nodes
from tfq_converters.reading.keras_models.load import Framework

FLOATS = ("float16", "bfloat16", "float64")
OTHERS = frozenset({*FLOATS, *(f"mixed_{name}" for name in FLOATS)})  # names of policies and types
NAMED = 3  # layers in a note
BY_HAND = "set the policy float32 (keras.config.set_dtype_policy), build the model again and load its weights into it"


def other_policies(tree: Node) -> dict[str, list[str]]:
    """Return the names of policies other than float32 that layers of a model have -> the paths of those layers."""
    paths: dict[str, list[str]] = {}
    for node in nodes(tree):
        policy = getattr(node.layer, "dtype_policy", None) or getattr(node.layer, "_dtype_policy", None)
        name = str(getattr(policy, "name", ""))
        if name in OTHERS:
            paths.setdefault(name, []).append(node.path)
    return paths


def in_float32(model: Any, framework: Framework) -> tuple[Any, list[str]]:
    """Return a copy of `model` that computes in float32, with a sentence on it; `model` itself if it does already.

    Raises:
        TfqError: a layer of another type cannot be made again from its configuration.
    """
    policies = other_policies(layer_tree(model))
    if not policies:
        return model, []
    every = [path for paths in policies.values() for path in paths]
    layers = f"{len(every)} layers ({', '.join(every[:NAMED])}{', ...' if len(every) > NAMED else ''})"
    said = f"model {model.name!r}: {layers} compute in {' and '.join(policies)}"
    package = importlib.import_module(framework)
    try:
        with _float32_by_default(package, framework), package.saving.custom_object_scope(_classes(model)):
            copy = _rebuilt(model, framework)
        before, after = (list(each.weights) for each in (model, copy))
        if [tuple(w.shape) for w in before] != [tuple(w.shape) for w in after]:
            raise TfqError(f"its {len(before)} weights and the {len(after)} of its copy differ in number or shape")
        for old, new in zip(before, after, strict=True):
            new.assign(np.asarray(old).astype(_numpy_type(new)))
    except Exception as error:  # whatever the configurations and constructors of the user's classes raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise TfqError(f"{said}, and the model cannot be rebuilt in float32 ({reason}); {BY_HAND}") from error
    left = other_policies(layer_tree(copy))
    if left:
        raise TfqError(f"{said}, and so do {', '.join(next(iter(left.values())))} of its copy; {BY_HAND}")
    return copy, [f"{said}: it was rebuilt in float32, with its weights"]


def _numpy_type(variable: Any) -> np.dtype:
    return np.asarray(variable).dtype


def _rebuilt(model: Any, framework: Framework) -> Any:
    if framework == "tf_keras":
        copy = type(model).from_config(_changed(model.get_config()))
        if not copy.built:
            raise TfqError(f"{type(model).__name__} {model.name!r} cannot be rebuilt from its configuration")
        return copy
    keras = importlib.import_module("keras")
    config = _changed(keras.saving.serialize_keras_object(model))
    config.pop("compile_config", None)
    copy = keras.saving.deserialize_keras_object(config, safe_mode=False)
    if not copy.built and config.get("build_config"):
        copy.build_from_config(config["build_config"])
    return copy


def _changed(config: Any, key: str = "") -> Any:
    """Return a configuration with float32 for every other float type that a `dtype` in it names."""
    if isinstance(config, Mapping):
        inner = config.get("config")
        if key == "dtype" and isinstance(inner, Mapping) and str(inner.get("name")) in OTHERS:
            return "float32"
        return {name: _changed(value, name) for name, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_changed(value) for value in config)
    return "float32" if key == "dtype" and isinstance(config, str) and config in OTHERS else config


def _classes(model: Any) -> dict[str, type]:
    """Return the classes of the model's own layers, which nobody may have registered."""
    classes = {type(node.layer) for node in nodes(layer_tree(model))} | {type(model)}
    return {cls.__name__: cls for cls in classes if cls.__module__.split(".")[0] not in ("keras", "tf_keras")}


@contextmanager
def _float32_by_default(package: Any, framework: Framework) -> Iterator[None]:
    """Give layers float32 as the type when their configuration names none."""
    if framework == "keras":
        get, put = package.config.dtype_policy, package.config.set_dtype_policy
        floatx, put_floatx = package.config.floatx(), package.config.set_floatx
    else:
        get, put = package.mixed_precision.global_policy, package.mixed_precision.set_global_policy
        floatx, put_floatx = package.backend.floatx(), package.backend.set_floatx
    policy = get()
    put_floatx("float32")
    put("float32")
    try:
        yield
    finally:
        put_floatx(floatx)
        put(policy)
