"""Finds the Keras layer that a faulty conversion breaks first: every layer's output is looked for in the file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfq_converters.errors import TfqError
from tfq_converters.graph import AnyArray, Graph, Signature
from tfq_converters.reading.keras_models.call import KerasCall
from tfq_converters.runtime import Runner

TOLERANCE = 1e-3  # share of the largest value: far above rounding, far below the effect of a lost operation


@dataclass
class Trail:
    """The values that each layer received and returned, in the order in which the layers finished."""

    layers: list[Any] = field(default_factory=list)
    received: list[set[int]] = field(default_factory=list)  # identities of tensors
    returned: list[list[Any]] = field(default_factory=list)
    kept: list[Any] = field(default_factory=list)  # so that no identity is used twice


def first_difference(
    call: KerasCall, graph: Graph, content: bytes, signature: Signature, inputs: Mapping[str, AnyArray]
) -> Any | None:
    """Return the first layer from which on no output of the model is found in the file.

    Args:
        call: the model.
        graph: what the file says.
        content: the file.
        signature: the entry point, on subgraph 0.
        inputs: inputs on which the file and the model differ, by the signature's names.

    Returns:
        The Keras layer; None when the difference cannot be placed.
    """
    trail = _follow(call, [inputs[name] for name in call.order([name for name, _ in signature.inputs])])
    by_index = {index: inputs[name] for name, index in signature.inputs}
    values = _all_tensors(graph, content, [by_index[index] for index in graph.main.inputs])
    lost = [not all(_found(output, values) for output in outputs) for outputs in trail.returned]
    for position in reversed(range(len(lost))):
        outputs = {id(output) for output in trail.returned[position]}
        users = [after for after in range(position + 1, len(lost)) if outputs & trail.received[after]]
        lost[position] = lost[position] and all(lost[after] for after in users)
    return next((layer for layer, gone in zip(trail.layers, lost, strict=True) if gone), None)


def _follow(call: KerasCall, values: Sequence[AnyArray]) -> Trail:
    import tensorflow as tf

    trail = Trail()

    def note(layer: Any, arguments: Any, result: Any) -> None:
        flat = [tensor for tensor in tf.nest.flatten(arguments) if tf.is_tensor(tensor)]
        trail.layers.append(layer)
        trail.received.append({id(tensor) for tensor in flat})
        trail.returned.append([tensor for tensor in tf.nest.flatten(result) if tf.is_tensor(tensor)])
        trail.kept.append((flat, result))

    with _observed(call, note):
        call([tf.constant(value) for value in values])
    return trail


@contextmanager
def _observed(call: KerasCall, note: Callable[[Any, Any, Any], None]) -> Iterator[None]:
    """Report every layer that is called meanwhile; the class is put back as it was."""
    if call.framework == "keras":
        import keras

        base: Any = keras.Operation
    else:
        import tf_keras

        base = tf_keras.layers.Layer
    plain = base.__call__

    def observing(layer: Any, *args: Any, **kwargs: Any) -> Any:
        result = plain(layer, *args, **kwargs)
        note(layer, (args, kwargs), result)
        return result

    base.__call__ = observing
    try:
        yield
    finally:
        base.__call__ = plain


def _all_tensors(graph: Graph, content: bytes, inputs: Sequence[AnyArray]) -> dict[int, list[AnyArray]]:
    """Return all float tensors of the main subgraph after a run, flat, by size."""
    runner = Runner(content, "optimized", keep_tensors=True)
    runner.invoke(inputs)
    tensors: dict[int, list[AnyArray]] = {}
    for index in dict.fromkeys((*graph.main.inputs, *(output for op in graph.main.ops for output in op.outputs))):
        if graph.main.tensors[index].dtype != "float32":
            continue
        try:
            value = runner.tensor(index).reshape(-1)
        except (TfqError, ValueError, RuntimeError):  # a tensor that this run did not allocate
            continue
        tensors.setdefault(value.size, []).append(value)
    return tensors


def _found(output: Any, values: Mapping[int, list[AnyArray]]) -> bool:
    target = np.asarray(output).reshape(-1)
    if not np.issubdtype(target.dtype, np.floating):
        return True
    limit = TOLERANCE * max(float(np.max(np.abs(target), initial=0.0)), 1e-3)
    return any(np.allclose(value, target, rtol=0.0, atol=limit) for value in values.get(target.size, []))
