"""Finds the code that a saved model would run when it is opened, before anything opens it."""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfq_converters.errors import TfqError, raise_all

CODE_CLASSES = {
    "Lambda": "holds Python bytecode",
    "TorchModuleWrapper": "holds a pickled torch module",
    "TFSMLayer": "loads a further SavedModel",
}
SAFE_MODULES = ("keras", "tf_keras", "builtins")
UNSAFE_FUNCTIONS = ("io.", "raw_ops.", "py_function", "numpy_function", "load_", "data.", "saved_model.")
UNSAFE_NODES = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "ReadFile", "WriteFile"}
ADVICE = "open it with safe_mode=False (--unsafe) if you trust its origin"


@dataclass(frozen=True)
class SavedConfig:
    """The architecture in a saved Keras file, as plain JSON values, and the Keras version that wrote it."""

    config: Any
    keras_version: str


def read_config(path: Path) -> SavedConfig:
    """Return the architecture of a `.keras` or `.h5` file, without building anything.

    Raises:
        TfqError: the file is damaged, or holds weights only.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                version = json.loads(archive.read("metadata.json")).get("keras_version", "")
                return SavedConfig(json.loads(archive.read("config.json")), version)
        return _read_hdf5(path)
    except TfqError:
        raise
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise TfqError(f"{path} is not a Keras model file, or is damaged: {error}") from error


def _read_hdf5(path: Path) -> SavedConfig:
    import h5py  # comes with Keras

    with h5py.File(path, "r") as file:
        if "model_config" not in file.attrs:
            raise TfqError(f"{path} holds weights only; build the model, call load_weights, and pass the model")
        config, version = (file.attrs.get(name, "") for name in ("model_config", "keras_version"))
        texts = [text.decode() if isinstance(text, bytes) else str(text) for text in (config, version)]
        return SavedConfig(json.loads(texts[0]), texts[1])


def refuse_code(path: Path, saved: SavedConfig, any_module: bool) -> None:
    """Raise when building the saved architecture would run code that the file brings along.

    Args:
        path: the file, for messages.
        saved: its architecture.
        any_module: whether classes of every importable module may be named (Keras 3 restricts them by itself).

    Raises:
        TfqError: lists every such layer.
    """
    problems = []
    for entry in _objects(saved.config):
        kind, name = entry.get("class_name"), _name(entry)
        if kind in CODE_CLASSES:
            problems.append(f"layer {name!r} is a {kind}, which {CODE_CLASSES[kind]}")
        module = entry.get("module")
        if not any_module and isinstance(module, str) and module.split(".")[0] not in SAFE_MODULES:
            problems.append(f"{kind} {name!r} is to be imported from module {module!r}")
        function = entry.get("config", {}).get("function") if isinstance(entry.get("config"), dict) else None
        if kind in ("TFOpLambda", "SlicingOpLambda") and str(function).startswith(UNSAFE_FUNCTIONS):
            problems.append(f"layer {name!r} calls tf.{function}")
    raise_all(problems, f"{path} runs code when it is opened ({ADVICE}):")


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every JSON object of `value` that names a class, outermost first."""
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        for item in value.values():
            yield from _objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _name(entry: dict[str, Any]) -> str:
    config = entry.get("config")
    return str(config.get("name", "")) if isinstance(config, dict) else str(config or "")


def parsed(path: Path) -> Any:
    """Return the protocol buffer of a SavedModel folder.

    Raises:
        TfqError: it is damaged.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel()
    try:
        saved.ParseFromString((path / "saved_model.pb").read_bytes())
    except DecodeError as error:
        raise TfqError(f"{path}/saved_model.pb is damaged: {error}") from error
    return saved


def refuse_unsafe_nodes(path: Path) -> None:
    """Raise when the graphs of a SavedModel read or write files, or call back into Python.

    Raises:
        TfqError: lists every such operation, or says that the protocol buffer is damaged.
    """
    reasons = set()
    for meta_graph in parsed(path).meta_graphs:
        functions = meta_graph.graph_def.library.function
        for nodes in (meta_graph.graph_def.node, *(function.node_def for function in functions)):
            reasons |= {f"operation {node.name!r} is a {node.op}" for node in nodes if node.op in UNSAFE_NODES}
    raise_all(sorted(reasons), f"{path} reads files or runs code outside of its graph ({ADVICE}):")
