"""The stock converter, kept quiet: a way to open it -> the bytes of a float `.tflite`."""

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_converters.reading.conversion.lookups import with_shapes_after_lookups
from tfq_converters.reading.conversion.silence import silenced

Opener = Callable[[], AbstractContextManager[Any]]  # opens a tf.lite.TFLiteConverter for as long as it is needed
KEPT_TEXT = 3000  # characters of the converter's own text that an error repeats
LOOP_LENGTH = "TensorListReserve"  # the operation that needs a fixed batch and a fixed number of steps


@dataclass(frozen=True)
class Conversion:
    """A float file, and sentences on how it was made."""

    content: bytes
    notes: tuple[str, ...] = ()

    @cached_property
    def graph(self) -> Graph:
        """Return what the file says; it is read once, for all that look at it."""
        return flatbuffer.read(self.content)


class ConversionRefused(Exception):  # noqa: N818 - a state to handle, which never leaves these modules
    """The stock converter failed."""

    def __init__(self, error: Exception, caught: str):
        super().__init__(str(error))
        self.text = f"{error}\n{caught}"  # everything it said
        self.compiled = type(error).__name__ == "ConverterError"  # else the model could not even be exported


def convert(opener: Opener, settings: Mapping[str, Any]) -> Conversion:
    """Run the stock converter; when operations are missing in TFLite, once more with those of TensorFlow allowed.

    Args:
        opener: opens the converter.
        settings: attributes to set on it.

    Raises:
        ConversionRefused: it fails.
    """
    try:
        return _run(opener, settings, builtins_only=True)
    except ConversionRefused as refused:
        missing = missing_operations(refused.text)
        if not missing:
            raise
    note = (
        f"{', '.join(missing)}: TFLite has no such operation. The file calls TensorFlow's (SELECT_TF_OPS) or a custom "
        "one; it stays float, and only a runtime that brings the operation can run the file"
    )
    return replace(_run(opener, settings, builtins_only=False), notes=(note,))


def _run(opener: Opener, settings: Mapping[str, Any], builtins_only: bool) -> Conversion:
    with silenced() as caught:
        try:
            with opener() as converter:
                for name, value in settings.items():
                    setattr(converter, name, value)
                if not builtins_only:
                    import tensorflow as tf

                    converter.target_spec.supported_ops = [
                        tf.lite.OpsSet.TFLITE_BUILTINS,
                        tf.lite.OpsSet.SELECT_TF_OPS,
                    ]
                    converter.allow_custom_ops = True
                return _with_shapes(Conversion(bytes(converter.convert())))
        except Exception as error:  # whatever exporting, tracing and compiling may raise
            raise ConversionRefused(error, caught()) from error


def _with_shapes(conversion: Conversion) -> Conversion:
    """Return the conversion with the shapes after its lookups, which the converter leaves out."""
    shaped = with_shapes_after_lookups(conversion.graph)
    return conversion if shaped is conversion.graph else Conversion(flatbuffer.write(shaped))


def missing_operations(text: str) -> list[str]:
    """Return the operations that the converter's `text` says TFLite lacks."""
    lists = re.findall(r"^(?:TF Select|Custom) ops: (.+)$", text, re.MULTILINE)
    return sorted({name.strip() for names in lists for name in names.split(",")})


def failure(name: str, refused: ConversionRefused, layer_of: Callable[[str], str]) -> TfqError:
    """Return the error to raise for a model that the converter refuses.

    Args:
        name: the model's name.
        refused: what the converter said.
        layer_of: the name of a TensorFlow operation -> the layer that it belongs to, "" when unknown.
    """
    layers = [layer_of(operation) for operation in re.findall(r'"([^"@\n]+)@__inference', refused.text)]
    layers += [layer_of(operation) for operation in re.findall(r'callsite\("([^"@\n]+)"', refused.text)]
    layer_name = next((layer for layer in layers if layer), "")
    where = f" at layer {layer_name!r}" if layer_name else ""
    advice = ""
    if LOOP_LENGTH in refused.text:
        advice = " A recurrent layer needs a known number of steps: give the Input a fixed length."
    said = refused.text.strip()
    said = said if len(said) <= KEPT_TEXT else f"{said[:KEPT_TEXT]} ..."
    return TfqError(f"model {name!r}: the TFLite converter fails{where}.{advice} It says:\n{said}")
