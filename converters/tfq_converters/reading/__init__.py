"""Reading: a Keras model, a SavedModel or a float `.tflite`, in -> a `Source`, out.

`reader` has the way through; `keras_models` loads and prepares Keras models, `conversion` calls the stock converter,
`comparison` compares its file with the model, `layer_names` finds the layer of each operator, `safety` refuses files
that do more than compute.
"""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_converters.reading.conversion.silence import silenced
    from tfq_converters.reading.keras_models.call import KerasCall, keras_call
    from tfq_converters.reading.keras_models.layers import (
        Node,
        inner_layers,
        layer_table,
        layer_tree,
        nodes,
        own_weights,
    )
    from tfq_converters.reading.keras_models.load import framework_of, keras_framework, load_model
    from tfq_converters.reading.layer_names.names import parts
    from tfq_converters.reading.reader import Source, read_model
    from tfq_converters.reading.safety.keras_file import read_config
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "conversion.silence": "silenced",
            "keras_models.call": "KerasCall keras_call",
            "keras_models.layers": "Node inner_layers layer_table layer_tree nodes own_weights",
            "keras_models.load": "framework_of keras_framework load_model",
            "layer_names.names": "parts",
            "reader": "Source read_model",
            "safety.keras_file": "read_config",
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
    "silenced",
]
