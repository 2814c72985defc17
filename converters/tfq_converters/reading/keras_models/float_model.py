"""Checks that a Keras model may be converted: it computes in float32, and its weights are finite."""

from collections.abc import Iterator

import numpy as np

from tfq_converters.errors import raise_all
from tfq_converters.reading.keras_models.layers import Node, nodes, own_weights

FLOAT32_POLICY = (
    "set the policy float32 (keras.config.set_dtype_policy), build the model again and load its weights into it"
)


def validate_model(tree: Node, name: str) -> None:
    """Raise when a layer computes in another type than float32, or holds NaN or infinity.

    Args:
        tree: the layers of the model.
        name: the name of the model, for the message.

    Raises:
        TfqError: one error that lists every such layer.
    """
    problems = [problem for node in nodes(tree) for problem in _policy(node)]
    raise_all(problems, f"model {name!r} does not compute in float32; {FLOAT32_POLICY}:")
    problems = [problem for node in nodes(tree) for problem in _not_finite(node)]
    raise_all(problems, f"model {name!r} has weights that are NaN or infinite:")


def _policy(node: Node) -> Iterator[str]:
    policy = getattr(node.layer, "dtype_policy", None)
    if getattr(policy, "quantization_mode", None):
        yield f"layer {node.path!r} is quantized already ({policy.name})"  # type: ignore[union-attr]
    elif str(getattr(node.layer, "compute_dtype", "float32")) in ("float16", "bfloat16", "float64"):
        yield f"layer {node.path!r} computes in {node.layer.compute_dtype}"


def _not_finite(node: Node) -> Iterator[str]:
    for weight in own_weights(node):
        values = np.asarray(weight)
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            nans, bad = int(np.isnan(values).sum()), int((~np.isfinite(values)).sum())
            first = [int(position) for position in np.argwhere(~np.isfinite(values))[0]]
            kind = weight.name.rsplit("/", 1)[-1].split(":")[0]
            yield f"layer {node.path!r}, {kind}: {nans} NaN, {bad - nans} infinite of {values.size}, first at {first}"
