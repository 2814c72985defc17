"""A Keras model as a function of named tensors: its arguments as a flat list, whatever structure it wants them in."""

import inspect
import keyword
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfq_converters.errors import TfqError
from tfq_converters.reading.keras_models.batch import is_sequential, undeclared_batch
from tfq_converters.reading.keras_models.layers import is_recurrent, layer_tree, nodes
from tfq_converters.reading.keras_models.load import Framework

Described = tuple[tuple[int | None, ...], str]  # shape and type of an input
Shapes = Callable[[Sequence[str]], Sequence[Sequence[Described]]]  # names of arguments -> what they may be
PLAIN = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Argument:
    """One input of a model."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class KerasCall:
    """A model together with the structure of its arguments."""

    model: Any
    framework: Framework
    arguments: tuple[Argument, ...]
    structure: tuple[Any, ...]  # positional arguments of the model; the leaves stand for `arguments`, in order

    def __call__(self, values: Sequence[Any]) -> Any:
        """Return the results of the model at inference for `values`, given in the order of `arguments`."""
        import tensorflow as tf

        positional = tf.nest.pack_sequence_as(self.structure, list(values))
        accepts = self.framework == "keras" or getattr(self.model, "_expects_training_arg", True)
        return self.model(*positional, **({"training": False} if accepts else {}))

    def named(self, result: Any) -> dict[str, Any]:
        """Return the model's output tensors by the keys of a flat dict, else numbered `output_0`, `output_1`, ...

        Those of a tf_keras model that declares its outputs go by the names of the layers that make them.
        """
        import tensorflow as tf

        if isinstance(result, Mapping) and not any(tf.nest.is_nested(value) for value in result.values()):
            return {str(key): result[key] for key in sorted(result)}
        tensors = tf.nest.flatten(result)
        names = list(getattr(self.model, "output_names", None) or ()) if self.framework == "tf_keras" else []
        if len(set(names)) != len(tensors):
            names = [f"output_{index}" for index in range(len(tensors))]
        return dict(zip(names, tensors, strict=True))

    def declared_outputs(self) -> Any:
        """Return the symbolic outputs of a Sequential or Functional model, in the structure that it returns."""
        return self.model.outputs[0] if is_sequential(self.model) else self.model.output

    def order(self, names: Sequence[str]) -> list[str]:
        """Return the `names` of a signature's inputs in the order of `arguments`: by name, else by their numbering."""
        arguments = [argument.name for argument in self.arguments]
        return arguments if sorted(arguments) == sorted(names) else sorted(names, key=_natural)

    def by_signature(self, result: Any, names: Sequence[str]) -> dict[str, Any]:
        """Return the model's output tensors by the `names` of a signature: its own, else in their numbering."""
        named = self.named(result)
        if set(named) == set(names):
            return named
        return dict(zip(sorted(names, key=_natural), named.values(), strict=True))


def _natural(name: str) -> list[Any]:
    """Return a sort key that puts `output_2` before `output_10`."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def keras_call(
    model: Any, framework: Framework, any_batch: bool | None = None, shapes: Shapes | None = None
) -> KerasCall:
    """Return how `model` is called.

    Args:
        model: a built model.
        framework: whose it is.
        any_batch: whether the first dimension of its inputs is free whatever they say; found out when None.
        shapes: what is known of the inputs of a subclassed model that does not know their shapes itself.

    Raises:
        TfqError: the shapes of the inputs are unknown.
    """
    import tensorflow as tf

    structure = _declared(model) or _recorded(model, framework, shapes)
    leaves = tf.nest.flatten(structure)
    any_batch = bool(undeclared_batch(model, framework)) if any_batch is None else any_batch
    names: list[str] = []
    for index, leaf in enumerate(leaves):
        name = _identifier(str(getattr(leaf, "name", None) or f"args_{index}").split(":")[0])
        names.append(name if name not in names else f"{name}_{index}")
    arguments = (
        Argument(name, (None, *leaf.shape[1:]) if any_batch else tuple(leaf.shape), tf.as_dtype(leaf.dtype).name)
        for name, leaf in zip(names, leaves, strict=True)
    )
    return KerasCall(model, framework, tuple(arguments), structure)


def _identifier(name: str) -> str:
    """Turn `name` into the Python identifier that TensorFlow takes for an argument."""
    plain = re.sub(r"\W", "_", name)
    return plain if plain.isidentifier() and not keyword.iskeyword(plain) else f"input_{plain}"


def _declared(model: Any) -> tuple[Any, ...] | None:
    """Return the inputs of a Sequential or Functional model, which declares them."""
    if not getattr(model, "inputs", None):
        return None
    return (model.inputs[0] if is_sequential(model) else model.input,)


def _recorded(model: Any, framework: Framework, given: Shapes | None) -> tuple[Any, ...]:
    """Return the inputs of a subclassed model, which are known from its first call, or from what is `given`."""
    if framework == "tf_keras":
        spec = model.save_spec()
        if spec is not None:
            return tuple(spec[0])
    shapes = (getattr(model, "_build_shapes_dict", None) or {}) if framework == "keras" else {}
    taken = inspect.signature(model.call).parameters.values()
    required = [
        parameter.name for parameter in taken if parameter.default is parameter.empty and parameter.kind in PLAIN
    ]
    if shapes and len(required) <= len(shapes):
        return tuple(_specs(shape, model.input_dtype, name.removesuffix("_shape")) for name, shape in shapes.items())
    if given is not None and required:
        return _accepted(model, required, given(required))
    if not shapes:
        raise TfqError(f"model {model.name!r} has no input shapes yet; call it once on data, or pass data=...")
    raise TfqError(
        f"model {model.name!r} takes {', '.join(required)}, and Keras recorded the shape of the first only; "
        "pass a Functional model around it: keras.Model([a, b], model(a, b))"
    )


def _accepted(model: Any, names: Sequence[str], candidates: Sequence[Sequence[Described]]) -> tuple[Any, ...]:
    """Return the first of the described inputs that the model takes; the last where it takes none, for it says why."""
    import tensorflow as tf

    every = [
        tuple(tf.TensorSpec(shape, kind, name) for name, (shape, kind) in zip(names, described, strict=True))
        for described in candidates
    ]
    for specs in every[:-1]:
        with suppress(Exception):  # whatever the user's `call` raises on shapes that it does not take
            tf.function(lambda *values: model(*values)).get_concrete_function(*specs)
            return specs
    return every[-1]


def _specs(shape: Any, dtype: str, name: str) -> Any:
    """Return the structure of `shape` with a spec in place of each shape; its first dimension is the batch."""
    import tensorflow as tf

    if isinstance(shape, Mapping):
        return {key: _specs(value, dtype, key) for key, value in shape.items()}
    if all(isinstance(size, int | None) for size in shape):
        return tf.TensorSpec((None, *shape[1:]), dtype, name)
    return [_specs(value, dtype, f"{name}_{index}") for index, value in enumerate(shape)]


@contextmanager
def unchanged(model: Any) -> Iterator[None]:
    """Put back the state of a model afterwards: of recurrent layers that keep it, of random generators, of metrics."""
    recurrent = [node.layer for node in nodes(layer_tree(model)) if is_recurrent(node.layer)]
    states = [
        state for layer in recurrent for state in flat(getattr(layer, "states", None)) if hasattr(state, "assign")
    ]
    variables = [*model.non_trainable_variables, *states]
    before = [np.asarray(variable).copy() for variable in variables]
    try:
        yield
    finally:
        for variable, values in zip(variables, before, strict=True):
            if not np.array_equal(np.asarray(variable), values, equal_nan=True):
                variable.assign(values)


def flat(values: Any) -> list[Any]:
    """Return the leaves of nested lists and tuples; None has none."""
    if isinstance(values, list | tuple):
        return [leaf for value in values for leaf in flat(value)]
    return [] if values is None else [values]
