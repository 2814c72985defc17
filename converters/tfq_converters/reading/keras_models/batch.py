"""Batch sizes that no user declared: a Sequential without an Input takes that of its last call for its own.

Keras 3 and tf_keras put an input layer before such a model when it is called, with the shape of what it was called
on. A file of that shape would only take so many samples at a time.
"""

from typing import Any

from tfq_converters.reading.keras_models.layers import is_recurrent, layer_tree, nodes
from tfq_converters.reading.keras_models.load import Framework

CALLED = (
    "the model's batch of {size} was that of a call, not declared by an Input: the file takes any number of samples"
)
SAVED = (
    "the model's batch of {size} was dropped: a saved Sequential does not tell whether an Input declared it or a call "
    "had it. To keep it, pass a Functional model whose Input has it"
)


def undeclared_batch(model: Any, framework: Framework) -> str:
    """Return a sentence on a Sequential's batch that its user did not declare, or may not have; "" without one.

    Models that keep state between calls need their batch, and keep it.
    """
    if not is_sequential(model) or not getattr(model, "inputs", None):
        return ""
    size = model.inputs[0].shape[0] if len(model.inputs[0].shape) else None
    if size is None or any(
        is_recurrent(n.layer) and getattr(n.layer, "stateful", False) for n in nodes(layer_tree(model))
    ):
        return ""
    origin = _origin(model, framework)
    if origin == "called":
        return CALLED.format(size=size)
    return SAVED.format(size=size) if origin == "saved" and size > 1 else ""


def is_sequential(model: Any) -> bool:
    """Return whether `model` is a Sequential of either Keras."""
    return "Sequential" in {cls.__name__ for cls in type(model).__mro__}


def _origin(model: Any, framework: Framework) -> str:
    """Return the origin of the input layer: "called", "saved" (which tells nothing more), or "declared".

    A layer knows the arguments that it was made with. Those of Keras's own one, made by a call, are a shape and a type;
    a saved one gives `sparse` too, which users leave at None.
    """
    layer: Any = getattr(model.inputs[0], "_keras_history", (None,))[0]
    arguments = getattr(getattr(layer, "_auto_config", None), "config", None) or {}
    if framework == "tf_keras" and not getattr(model, "_has_explicit_input_shape", True):
        return "called"
    if arguments.get("sparse") is not None:
        first = model.layers[0].name if model.layers else ""
        named = (
            framework == "keras" or getattr(layer, "name", "") == f"{first}_input"
        )  # tf_keras names what it made itself
        return "saved" if named else "declared"
    made = framework == "keras" and arguments.get("batch_shape") is not None and arguments.get("dtype") is not None
    return "called" if made else "declared"
