"""Reading: a Keras model, a saved model or a float `.tflite`, in -> a `Source`, out. The first stage of everything."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import AnyArray, Graph, Signature
from tfq_converters.reading.comparison.checked import checked
from tfq_converters.reading.comparison.conversion_check import Arrays, Difference, Reference
from tfq_converters.reading.comparison.culprit import first_difference
from tfq_converters.reading.conversion.convert import Conversion
from tfq_converters.reading.conversion.half_constants import without_half_constants
from tfq_converters.reading.conversion.lookups import with_shapes_after_lookups
from tfq_converters.reading.float_source import refuse_quantized, validate_constants
from tfq_converters.reading.keras_models.batch import undeclared_batch
from tfq_converters.reading.keras_models.call import KerasCall, Shapes, keras_call, unchanged
from tfq_converters.reading.keras_models.float32 import in_float32
from tfq_converters.reading.keras_models.float_model import validate_model
from tfq_converters.reading.keras_models.layers import layer_tree, nodes
from tfq_converters.reading.keras_models.load import keras_framework, load_model
from tfq_converters.reading.keras_models.model import convert_model
from tfq_converters.reading.keras_models.order import in_models_order
from tfq_converters.reading.layer_names.names import Resolver
from tfq_converters.reading.layer_names.provenance import (
    LayerInfo,
    Provenance,
    layer_from_names,
    named_layers,
    trace_layers,
)
from tfq_converters.reading.safety.saved_model_graphs import refuse_unsafe_nodes
from tfq_converters.reading.saved_model import convert_folder, load_signatures, without_training_state

KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")


@dataclass(frozen=True)
class Source:
    """A float model as everything after reading sees it."""

    graph: Graph  # every operator knows its layer
    content: bytes | str  # the float .tflite, or the path of one
    keras_model: object | None
    name: str
    notes: tuple[str, ...] = ()  # sentences on how it was read
    layers: Mapping[str, LayerInfo] = field(default_factory=dict)  # by path, and by own name where that is unique
    call: KerasCall | None = None  # how the Keras model is called


def read_model(model: Any, *, safe_mode: bool = True, check: bool = True, shapes: Shapes | None = None) -> Source:
    """Read a float model. TensorFlow is loaded only for Keras models and SavedModels.

    Args:
        model: a built Keras 3 or tf_keras model; the path of a `.keras`, `.h5` or `.tflite` file or of a SavedModel
            folder; the bytes of a `.tflite`.
        safe_mode: refuse files that do more than compute (SECURITY.md).
        check: compare what the stock converter makes of the model with the model, on random inputs.
        shapes: tells the shapes and types of the inputs of a subclassed model that does not know them.

    Raises:
        TfqError: the model cannot be read or converted, is quantized already, holds NaN or infinite weights, or its
            conversion computes something else.
    """
    if isinstance(model, bytes | bytearray | memoryview):
        return _from_tflite(bytes(model), "the given file", "model")
    if isinstance(model, str | os.PathLike):
        return _from_path(Path(model), safe_mode, check, shapes)
    return _from_keras(model, (), check, shapes)


def _from_path(path: Path, safe_mode: bool, check: bool, shapes: Shapes | None) -> Source:
    if not path.exists():
        raise TfqError(f"{path} does not exist")
    if (path / "saved_model.pb").exists():
        return _from_folder(path, safe_mode, check)
    if path.suffix.lower() in KERAS_SUFFIXES and path.is_file():
        model, notes = load_model(path, safe_mode)
        return _from_keras(model, tuple(notes), check, shapes)
    if path.is_dir():
        raise TfqError(f"{path} is a folder without saved_model.pb; a SavedModel folder has one")
    if path.suffix.lower() == ".tflite" or _is_tflite(path):
        return _from_tflite(str(path), str(path), path.stem)
    raise TfqError(f"{path} is neither {', '.join(KERAS_SUFFIXES)}, .tflite nor a SavedModel folder")


def _is_tflite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8)[4:] == flatbuffer.IDENTIFIER


def _from_tflite(content: bytes | str, called: str, name: str) -> Source:
    float_graph = flatbuffer.read(content)
    shaped = with_shapes_after_lookups(float_graph)
    content = content if shaped is float_graph else flatbuffer.write(shaped)
    folded = without_half_constants(shaped)
    refuse_quantized(folded.graph, called)
    graph = layer_from_names(folded.graph)
    validate_constants(graph)
    notes = folded.notes
    if graph.sparse:
        notes += (f"the model stores {graph.sparse} constants sparse; they are written dense, which takes more space",)
    return Source(graph, content, None, name, notes, named_layers(graph))


def _from_keras(model: Any, notes: tuple[str, ...], check: bool, shapes: Shapes | None) -> Source:
    framework = keras_framework(model)
    undeclared = undeclared_batch(model, framework)
    model, rebuilt = in_float32(model, framework)
    notes = (*notes, *rebuilt, *([undeclared] if undeclared else []))
    tree = layer_tree(model)
    validate_model(tree, model.name)
    call = keras_call(model, framework, bool(undeclared), shapes)
    names = Resolver(tree, suffixed=framework == "keras")

    def convert(settings: Mapping[str, Any]) -> Conversion:
        return in_models_order(convert_model(call, settings, names.layer), call)

    conversion = convert({})
    traced = _traced(conversion, model)
    if check:
        with unchanged(model):
            compared = checked(
                model.name,
                conversion,
                convert,
                lambda signature: _keras_reference(call, signature),
                lambda graph, content, difference: _place(call, graph, content, difference),
            )
        traced = traced if compared.content is conversion.content else _traced(compared, model)
        conversion = compared
    all_notes = (*notes, *conversion.notes, *traced.notes)
    return Source(traced.graph, conversion.content, model, model.name, all_notes, traced.layers, call)


def _traced(conversion: Conversion, model: Any) -> Provenance:
    graph = conversion.graph
    refuse_quantized(graph, f"model {model.name!r}")
    provenance = trace_layers(graph, model)
    validate_constants(provenance.graph)
    return provenance


def _keras_reference(call: KerasCall, signature: Signature) -> Reference:
    order = call.order([name for name, _ in signature.inputs])
    outputs = [name for name, _ in signature.outputs]

    def reference(inputs: Mapping[str, AnyArray]) -> Arrays:
        result = call.by_signature(call([inputs[name] for name in order]), outputs)
        return {name: np.asarray(value) for name, value in result.items()}

    return reference


def _place(call: KerasCall, graph: Graph, content: bytes, difference: Difference) -> str:
    """Return the first layer that the conversion breaks, in words."""
    signature = next(other for other in graph.signatures if other.key == difference.signature)
    try:
        layer = first_difference(call, graph, content, signature, difference.inputs)
    except (
        TfqError
    ):  # the kernels that keep every tensor refuse the file; the difference itself is reported all the same
        return ""
    if layer is None:
        return ""
    path = next((node.path for node in nodes(layer_tree(call.model)) if node.layer is layer), layer.name)
    return f"layer {path!r} ({type(layer).__name__})"


def _from_folder(path: Path, safe_mode: bool, check: bool) -> Source:
    if safe_mode:
        refuse_unsafe_nodes(path)
    with without_training_state(path) as folder:
        functions = load_signatures(folder, str(path))

        def convert(settings: Mapping[str, Any]) -> Conversion:
            return convert_folder(folder, list(functions), settings, str(path))

        conversion = convert({})
        named = _named(conversion, path)
        if check:
            compared = checked(
                str(path),
                conversion,
                convert,
                lambda signature: _signature_reference(functions[signature.key]),
                lambda graph, content, difference: "",
            )
            named = named if compared.content is conversion.content else _named(compared, path)
            conversion = compared
    return Source(named, conversion.content, None, path.name, conversion.notes, named_layers(named))


def _named(conversion: Conversion, path: Path) -> Graph:
    graph = conversion.graph
    refuse_quantized(graph, str(path))
    graph = layer_from_names(graph)
    validate_constants(graph)
    return graph


def _signature_reference(function: Any) -> Reference:
    def reference(inputs: Mapping[str, AnyArray]) -> Arrays:
        import tensorflow as tf

        result = function(**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in result.items()}

    return reference
