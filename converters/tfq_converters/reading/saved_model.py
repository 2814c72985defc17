"""A SavedModel folder, all its signatures -> a float `.tflite`."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.files import temporary_folder
from tfq_converters.graph import Graph, Subgraph, Tensor
from tfq_converters.graph_edit import with_main
from tfq_converters.reading.conversion.convert import LOOP_LENGTH, Conversion, ConversionRefused, convert, failure
from tfq_converters.reading.conversion.silence import silenced
from tfq_converters.reading.conversion.stock import saved_model_converter
from tfq_converters.reading.safety.saved_model_graphs import parsed

DEFAULT_KEY = "serving_default"
SINGLE_BATCH = (
    "converted at batch 1, because the TFLite converter takes the loops of the model only at a fixed batch; "
    "feed one sample at a time"
)


@contextmanager
def without_training_state(path: Path) -> Iterator[Path]:
    """Yield a SavedModel that loads without its Keras: `path`, or a copy without optimizer slots.

    TensorFlow gives slots to the optimizer of tf_keras, and fails ("has no attribute 'add_slot'") where that is not
    installed. Inference needs none. The copy links to the variables, and holds as long as the context.
    """
    saved = parsed(path)
    optimizers = [node for graph in saved.meta_graphs for node in graph.object_graph_def.nodes if node.slot_variables]
    if not optimizers:
        yield path
        return
    for node in optimizers:
        node.ClearField("slot_variables")
    with temporary_folder() as folder:
        for part in path.iterdir():
            if part.name != "saved_model.pb":
                (folder / part.name).symlink_to(part.resolve())
        (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
        yield folder


def load_signatures(path: Path, name: str) -> dict[str, Any]:
    """Return the signatures of a SavedModel by key, the default one first; endpoints that Keras exports twice, once.

    Raises:
        TfqError: the folder cannot be loaded, or has no signature.
    """
    import tensorflow as tf

    try:
        with silenced():
            loaded = tf.saved_model.load(str(path))
    except Exception as error:  # a damaged folder raises nearly anything
        raise TfqError(f"{name} cannot be loaded as a SavedModel: {error}") from error
    signatures = dict(loaded.signatures)
    if not signatures:
        raise TfqError(f"{name} has no signature; save it with tf.saved_model.save(..., signatures=...)")
    if DEFAULT_KEY in signatures and "serve" in signatures and _same(signatures["serve"], signatures[DEFAULT_KEY]):
        del signatures["serve"]  # `model.export` writes one endpoint under both names
    for function in signatures.values():
        function.kept_alive = loaded  # a signature holds its variables only weakly
    return dict(sorted(signatures.items(), key=lambda item: item[0] != DEFAULT_KEY))


def _same(first: Any, second: Any) -> bool:
    return bool(
        first.structured_input_signature == second.structured_input_signature
        and first.structured_outputs == second.structured_outputs
    )


def convert_folder(path: Path, keys: list[str], settings: Mapping[str, Any], name: str) -> Conversion:
    """Convert the signatures `keys` of a SavedModel, called `name`; subgraph 0 of the file is that of the first.

    Raises:
        TfqError: the converter fails.
    """
    try:
        conversion = convert(lambda: _opened(path, keys), settings)
    except ConversionRefused as refused:
        conversion = _at_single_batch(path, keys, settings, refused, name)
    graph = conversion.graph
    main = next((signature.subgraph for signature in graph.signatures if signature.key == keys[0]), 0)
    if main == 0:
        return conversion
    return replace(conversion, content=flatbuffer.write(with_main(graph, main)))


def _at_single_batch(
    path: Path, keys: list[str], settings: Mapping[str, Any], refused: ConversionRefused, name: str
) -> Conversion:
    if LOOP_LENGTH not in refused.text:
        raise failure(name, refused, _no_layer) from refused
    try:
        single = {**settings, "_experimental_default_to_single_batch_in_tensor_list_ops": True}
        conversion = convert(lambda: _opened(path, keys), single)
    except ConversionRefused as again:
        raise failure(name, again, _no_layer) from again
    graph = pinned_batch(conversion.graph)
    return replace(conversion, content=flatbuffer.write(graph), notes=(SINGLE_BATCH, *conversion.notes))


def _no_layer(operation: str) -> str:
    return ""


def _opened(path: Path, keys: list[str]) -> AbstractContextManager[Any]:
    return nullcontext(saved_model_converter(str(path), keys))


def pinned_batch(graph: Graph) -> Graph:
    """Return `graph` with each unknown batch of a signature input set to the 1 that its loops were built for."""
    pins = {(signature.subgraph, index) for signature in graph.signatures for _, index in signature.inputs}

    def pinned(tensor: Tensor) -> Tensor:
        if tensor.dynamic_shape[:1] != (-1,):
            return tensor
        return replace(tensor, shape_signature=(1, *tensor.dynamic_shape[1:]))

    def subgraph_pinned(number: int, subgraph: Subgraph) -> Subgraph:
        tensors = (pinned(t) if (number, i) in pins else t for i, t in enumerate(subgraph.tensors))
        return replace(subgraph, tensors=tuple(tensors))

    return replace(graph, subgraphs=tuple(subgraph_pinned(n, s) for n, s in enumerate(graph.subgraphs)))
