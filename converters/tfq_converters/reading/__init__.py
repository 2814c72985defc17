"""Reading: a Keras model, a SavedModel or a float `.tflite`, in -> a `Source`, out. `reader` has the way through."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_converters.reading.call import KerasCall, keras_call
    from tfq_converters.reading.layers import Node, inner_layers, layer_table, layer_tree, nodes, own_weights
    from tfq_converters.reading.load import framework_of, keras_framework, load_model
    from tfq_converters.reading.names import parts
    from tfq_converters.reading.reader import Source, read_model
    from tfq_converters.reading.safety import read_config
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "call": "KerasCall keras_call",
            "layers": "Node inner_layers layer_table layer_tree nodes own_weights",
            "load": "framework_of keras_framework load_model",
            "names": "parts",
            "reader": "Source read_model",
            "safety": "read_config",
        },
    )

__all__ = [
    "KerasCall",
    "Node",
    "Source",
    "framework_of",
    "inner_layers",
    "keras_call",
    "keras_framework",
    "layer_table",
    "layer_tree",
    "load_model",
    "nodes",
    "own_weights",
    "parts",
    "read_config",
    "read_model",
]
