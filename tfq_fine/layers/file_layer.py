"""A Keras layer that computes the graph of a `.tflite` file."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfq_converters.graph import Graph, Tensor
from tfq_fine.emulation import Interpreter, is_quantized


class FileLayer(keras.layers.Layer):  # type: ignore[misc]
    """The file as a layer without weights of its own.

    Args:
        graph: the graph of the file.
        slots: for each input of the file, which of the layer's inputs it is.
        order: for each output of the layer, which of the file's it is.
    """

    def __init__(self, graph: Graph, slots: Sequence[int], order: Sequence[int], **named: Any):
        super().__init__(**named)
        self._slots, self._order = tuple(slots), tuple(order)
        self._run = Interpreter(graph)
        main = graph.main
        self._inputs = tuple(main.tensors[t] for t in main.inputs)
        self._outputs = tuple(main.tensors[t] for t in main.outputs)
        self._single = any(_is_fixed(tensor) for tensor in self._inputs)

    def call(self, inputs: Sequence[Any]) -> Any:
        """Return the outputs for `inputs`, in the model's order; one sample at a time where the file's batch is 1."""
        ordered = [inputs[slot] for slot in self._slots]
        if not self._single:
            return self._ordered(self._run(ordered))
        kinds = tuple(tf.as_dtype(tensor.dtype) for tensor in self._outputs)

        def one(sample: Any) -> Any:
            results = self._run([tf.expand_dims(value, 0) for value in sample])
            return tuple(tf.squeeze(value, 0) for value in results)

        return self._ordered(list(tf.map_fn(one, tuple(ordered), fn_output_signature=kinds)))

    def compute_output_spec(self, inputs: Sequence[Any]) -> Any:
        """Return shapes and types of the file's outputs, with a free batch."""
        specs = []
        for tensor in self._outputs:
            dtype = tensor.dtype if is_quantized(tensor) or not tensor.dtype.startswith("float") else "float32"
            sizes = [None if size < 0 else size for size in tensor.dynamic_shape]
            specs.append(keras.KerasTensor((None, *sizes[1:]) if sizes else (), dtype))
        return self._ordered(specs)

    def _ordered(self, results: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(results[index] for index in self._order)


def _is_fixed(tensor: Tensor) -> bool:
    return bool(tensor.dynamic_shape) and tensor.dynamic_shape[0] == 1
