"""A Keras model in memory -> a float `.tflite`, at its own batch size where that converts, else at batch 1."""

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tfq_converters.keras_call import KerasCall
from tfq_converters.keras_convert import Conversion, ConversionRefused, Opener, convert, failure
from tfq_converters.keras_layers import is_recurrent, layer_tree, nodes

FLAT_EXPORT = "exported with flat lists of inputs and outputs, because the TFLite converter's own export of it fails"
SINGLE_BATCH = (
    "converted at batch 1, because the TFLite converter takes {what} only at a fixed batch; feed one sample at a time"
)


def convert_model(call: KerasCall, settings: Mapping[str, Any], layer_of: Callable[[str], str]) -> Conversion:
    """Convert by the first of these ways that works: the stock one, with flat inputs and outputs, at batch 1.

    Args:
        call: the model.
        settings: attributes to set on the converter.
        layer_of: the name of a TensorFlow operation -> its layer, for messages.

    Raises:
        TfqError: none works; names the layer when it can be found.
    """
    free = any(argument.shape[:1] == (None,) for argument in call.arguments)
    loop = _loop(call.model) if free else ""  # known to fail at a free batch, after 10 s of tracing for tf_keras
    notes: list[str] = []
    last: ConversionRefused | None = None
    if not loop:
        try:
            return convert(lambda: _stock(call), settings)
        except ConversionRefused as refused:
            last = refused
        if not last.compiled:
            notes.append(FLAT_EXPORT)
            try:
                return _noted(convert(_opener(call, None), settings), notes)
            except ConversionRefused as refused:
                last = refused
    if free and (last is None or last.compiled):
        notes.append(SINGLE_BATCH.format(what=f"recurrent layer {loop!r}" if last is None else f"it ({_reason(last)})"))
        try:
            return _noted(convert(_opener(call, 1), settings), notes)
        except ConversionRefused as refused:
            last = refused
    assert last is not None
    raise failure(call.model.name, last, layer_of) from last


def _loop(model: Any) -> str:
    """The path of the first recurrent layer that becomes a loop, "" when there is none."""
    recurrent = (node for node in nodes(layer_tree(model)) if is_recurrent(node.layer))
    return next((node.path for node in recurrent if not getattr(node.layer, "unroll", False)), "")


def _noted(conversion: Conversion, notes: list[str]) -> Conversion:
    return replace(conversion, notes=(*notes, *conversion.notes))


def _reason(refused: ConversionRefused) -> str:
    """The line of what the converter said that says most."""
    operation = re.search(r"'(tf\.\w+)' op requires [^\n]*", refused.text)
    return operation[0] if operation else refused.text.strip().splitlines()[0][:200]


@contextmanager
def _stock(call: KerasCall) -> Iterator[Any]:
    import tensorflow as tf

    yield tf.lite.TFLiteConverter.from_keras_model(call.model)


def _opener(call: KerasCall, batch: int | None) -> Opener:
    @contextmanager
    def opened() -> Iterator[Any]:
        import tensorflow as tf

        with tempfile.TemporaryDirectory() as folder:
            _export(call, batch, folder)
            yield tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])

    return opened


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

    if call.framework == "keras":
        import keras

        archive = keras.export.ExportArchive()
        archive.track(call.model)
        archive.add_endpoint("serve", serve, input_signature=specs)
        archive.write_out(folder, verbose=False)
    else:
        module = tf.Module()
        module.kept = list(call.model.variables)  # the model itself would be traced whole, which takes 20 s for a GRU
        signature = tf.function(serve).get_concrete_function(*specs)
        tf.saved_model.save(module, folder, signatures={"serving_default": signature})
