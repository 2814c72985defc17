"""`simulate`: a Keras model that computes what an emitted file computes."""

import importlib
from collections.abc import Sequence
from typing import Any

from tfq_converters.errors import TfqError, extras_named, raise_all
from tfq_converters.graph import Graph
from tfq_converters.reading import KerasCall, keras_call, keras_framework
from tfq_fine.emulation import refuse_unknown
from tfq_fine.layers.export import unwrapped
from tfq_fine.layers.wrapped import wrappers


@extras_named()
def simulate(model: Any, result: Any) -> Any:
    """Return a Keras model with the inputs and outputs of `model` that computes what `result` holds, kernel by kernel.

    Args:
        model: the Keras 3 model that was quantized, wrapped or not; it gives names and structure.
        result: what `tfq_fine.quantize` returned for it.

    Returns:
        A Functional model. A file of a fixed batch runs one sample after the other.

    Raises:
        TfqError: the file is not of this model, or has an operator that is not simulated.
    """
    import keras
    import tensorflow as tf

    if keras_framework(model) != "keras":
        raise TfqError(f"simulate makes a Keras 3 model; {model.name!r} is of tf_keras")
    plain = unwrapped(model).model if wrappers(model) else model
    call = keras_call(plain, "keras")
    graph = getattr(result, "graph", None)
    if not isinstance(graph, Graph):
        raise TfqError(
            f"simulate takes what tfq_fine.quantize returned; received an object of class {type(result).__name__}"
        )
    refuse_unknown(graph)
    inputs, slots = _inputs(call, graph)
    structure = _output_structure(call)
    order = _output_order(call, graph, structure)
    layer = importlib.import_module("tfq_fine.layers.file_layer").FileLayer  # Keras comes with it
    file_outputs = layer(graph, slots, order, name=f"{plain.name}_file")(inputs)
    outputs = tf.nest.pack_sequence_as(structure, list(file_outputs))
    packed = tf.nest.pack_sequence_as(call.structure, inputs)
    twin = keras.Model(packed[0] if len(packed) == 1 else list(packed), outputs, name=f"{plain.name}_simulated")
    twin.compile(jit_compile=False)  # XLA reorders float arithmetic, the kernels do not
    return twin


def _inputs(call: KerasCall, graph: Graph) -> tuple[list[Any], list[int]]:
    """Return Keras inputs in the order of the model, and for each input of the file which of them it is."""
    import keras

    tensors = dict(zip(graph.input_names(), (graph.main.tensors[t] for t in graph.main.inputs), strict=True))
    names = call.order(list(tensors))
    if len(names) != len(call.arguments) or set(names) != set(tensors):
        raise TfqError(f"the file has inputs {', '.join(tensors)}; the model has {', '.join(names)}")
    raise_all(
        f"the file is of another model: its input {name!r} is {list(tensors[name].dynamic_shape)}, "
        f"that of {call.model.name!r} {list(argument.shape)}"
        for argument, name in zip(call.arguments, names, strict=True)
        if not _fits(tensors[name].dynamic_shape, argument.shape)
    )
    inputs = [
        keras.Input(batch_shape=argument.shape, dtype=tensors[name].dtype, name=argument.name)
        for argument, name in zip(call.arguments, names, strict=True)
    ]
    return inputs, [names.index(name) for name in graph.input_names()]


def _fits(of_file: Sequence[int], of_model: Sequence[int | None]) -> bool:
    """Return whether the shapes can be of one tensor; the sizes that either leaves open may be any."""
    return len(of_file) == len(of_model) and all(
        here < 0 or there is None or here == there for here, there in zip(of_file[1:], of_model[1:], strict=True)
    )


def _output_structure(call: KerasCall) -> Any:
    """Return the symbolic structure that the model returns."""
    import keras

    if getattr(call.model, "inputs", None):
        return call.declared_outputs()
    return call([keras.KerasTensor(argument.shape, argument.dtype) for argument in call.arguments])


def _output_order(call: KerasCall, graph: Graph, structure: Any) -> list[int]:
    """Return, for each output of the model, the index of the file's output."""
    import tensorflow as tf

    by_name = call.by_signature(structure, graph.output_names())
    position = {id(tensor): graph.output_names().index(name) for name, tensor in by_name.items()}
    return [position[id(tensor)] for tensor in tf.nest.flatten(structure)]
