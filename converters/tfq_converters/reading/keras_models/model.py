"""A Keras model in memory -> a float `.tflite`, at its own batch size where that converts, else at batch 1."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tfq_converters.files import temporary_folder
from tfq_converters.reading.conversion.convert import Conversion, ConversionRefused, convert, failure
from tfq_converters.reading.conversion.stock import saved_model_converter
from tfq_converters.reading.keras_models.call import KerasCall
from tfq_converters.reading.keras_models.layers import is_recurrent, layer_tree, nodes

SINGLE_BATCH = (
    "converted at batch 1, because the TFLite converter takes {what} only at a fixed batch; feed one sample at a time"
)


def convert_model(call: KerasCall, settings: Mapping[str, Any], layer_of: Callable[[str], str]) -> Conversion:
    """Convert at the model's own batch size if that works, else at batch 1.

    Args:
        call: the model.
        settings: attributes to set on the converter.
        layer_of: the name of a TensorFlow operation -> its layer, for messages.

    Raises:
        TfqError: neither works; names the layer when it can be found.
    """
    free = any(argument.shape[:1] == (None,) for argument in call.arguments)
    loop = _loop(call.model) if free else ""  # known to fail at a free batch
    what = f"recurrent layer {loop!r}"
    if not loop:
        try:
            return convert(lambda: _opened(call, None), settings)
        except ConversionRefused as refused:
            if not (free and refused.compiled):
                raise failure(call.model.name, refused, layer_of) from refused
            what = f"it ({_reason(refused)})"
    try:
        conversion = convert(lambda: _opened(call, 1), settings)
    except ConversionRefused as refused:
        raise failure(call.model.name, refused, layer_of) from refused
    return replace(conversion, notes=(SINGLE_BATCH.format(what=what), *conversion.notes))


def _loop(model: Any) -> str:
    """Return the path of the first recurrent layer that becomes a loop, "" when there is none."""
    recurrent = (node for node in nodes(layer_tree(model)) if is_recurrent(node.layer))
    return next((node.path for node in recurrent if not getattr(node.layer, "unroll", False)), "")


def _reason(refused: ConversionRefused) -> str:
    """Return the most telling line of the converter's message."""
    operation = re.search(r"'(tf\.\w+)' op requires [^\n]*", refused.text)
    return operation[0] if operation else refused.text.strip().splitlines()[0][:200]


@contextmanager
def _opened(call: KerasCall, batch: int | None) -> Iterator[Any]:
    """Open the stock converter on an export of the model.

    Not its own `from_keras_model`: where that fails to export a model, it silently traces it by other means, or not,
    depending on which Keras happens to be loaded.
    """
    with temporary_folder() as folder:
        _export(call, batch, str(folder))
        yield saved_model_converter(str(folder), ["serving_default"])


def _export(call: KerasCall, batch: int | None, folder: str) -> None:
    """Save the model's inference as a SavedModel with flat named inputs and outputs, a free batch set to `batch`."""
    import tensorflow as tf

    specs = [
        tf.TensorSpec(
            tuple(batch if axis == 0 and size is None else size for axis, size in enumerate(argument.shape)),
            argument.dtype,
            argument.name,
        )
        for argument in call.arguments
    ]

    def serve(*values: Any) -> dict[str, Any]:
        return call.named(call(values))

    ours = call.framework == "keras"  # whose layers are written for a call without AutoGraph
    function = tf.function(serve, autograph=not ours).get_concrete_function(*specs)
    # Keras exports an endpoint under two names; those of the output tensors count them.
    signatures = dict.fromkeys(["serve", "serving_default"] if ours else ["serving_default"], function)
    module = tf.Module()
    module.kept = list(function.graph.variables)  # the rest of a model is not walked through, which takes longer
    try:
        tf.saved_model.save(module, folder, signatures=signatures)
    except AssertionError:  # it uses tables, which only the model tracks
        _export_with_tables(call, serve, specs, signatures, module, folder)


def _export_with_tables(
    call: KerasCall, serve: Callable[..., Any], specs: list[Any], signatures: Any, module: Any, folder: str
) -> None:
    if call.framework == "keras":
        import keras

        archive = keras.export.ExportArchive()
        archive.track(call.model)
        archive.add_endpoint("serve", serve, input_signature=specs)
        archive.write_out(folder, verbose=False)
    else:
        import tensorflow as tf

        module.model = call.model  # tracing all of it takes 10 s for an LSTM
        tf.saved_model.save(module, folder, signatures=signatures)
