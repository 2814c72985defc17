"""Refuses saved Keras files whose architecture does more than compute: only what is on the lists is let in."""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from tfq_converters.errors import raise_all
from tfq_converters.reading.safety.keras_classes import CLASSES, FUNCTIONS, OPERATIONS
from tfq_converters.reading.safety.keras_file import SavedConfig
from tfq_converters.reading.safety.tensorflow_functions import computes

CODE_CLASSES = {
    "Lambda": "holds Python bytecode",
    "__lambda__": "holds Python bytecode",
    "TorchModuleWrapper": "holds a pickled torch module",
    "TFSMLayer": "loads a further SavedModel",
    "ClassMethod": "calls a method of any class of TensorFlow",
    "InstanceMethod": "calls any method of its input",
    "TensorFlowOpLayer": "runs any operation of TensorFlow",
}
CALLS = ("TFOpLambda", "SlicingOpLambda")
SAFE_MODULES = ("keras", "tf_keras", "builtins")
ADVICE = "open it with safe_mode=False (--unsafe) if you trust its origin"


def refuse_code(
    path: Path, saved: SavedConfig, frameworks: Collection[str], custom_objects: Mapping[str, Any] | None = None
) -> None:
    """Raise when building the saved architecture would do more than compute.

    Args:
        path: the file, for messages.
        saved: its architecture.
        frameworks: the Kerases in which the caller may have registered classes and functions; those are let in.
        custom_objects: further ones by name.

    Raises:
        TfqError: lists every layer, class and function that is not known to compute only.
    """
    names = {str(name) for name in custom_objects or {}}

    def known(name: Any) -> bool:
        return name in names or any(_registered(name, framework) for framework in frameworks)

    problems = [f"the values of {name!r} are read from another file" for name in saved.outside]
    for entry in _objects([saved.config, saved.training]):
        by_name = _goes_by_registered_name(entry, saved.archive) and known(entry.get("registered_name"))
        if not (by_name or known(entry["class_name"])):
            problems += _problems(entry, known)
    raise_all(dict.fromkeys(problems), f"{path} runs code when it is opened ({ADVICE}):")


def _goes_by_registered_name(entry: dict[str, Any], archive: bool) -> bool:
    """Return whether Keras builds what `registered_name` says, whatever `class_name` is, or both say the same.

    The formats before `.keras`, also where they are nested in one, go by `class_name`; they have no `module`.
    """
    kind = str(entry["class_name"])
    if kind == "function" or kind.startswith("__"):
        return False
    same = str(entry.get("registered_name", "")).rpartition(">")[2] == kind
    return same or (archive and "module" in entry)


def _registered(name: Any, framework: str) -> bool:
    module = sys.modules.get(framework)  # what nobody has imported, nobody has registered anything with
    return module is not None and module.saving.get_registered_object(name) is not None


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every JSON object of `value` that names a class, outermost first."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                yield value
            left += reversed(value.values())
        elif isinstance(value, list):
            left += reversed(value)


def _problems(entry: dict[str, Any], known: Callable[[Any], bool]) -> Iterator[str]:
    """Yield, in words, what an object of a saved file does that is not on the lists."""
    kind, name, module = str(entry["class_name"]), _name(entry), entry.get("module")
    config = entry["config"] if isinstance(entry.get("config"), dict) else {}
    foreign = isinstance(module, str) and module.split(".")[0] not in SAFE_MODULES
    if kind == "function":
        if not known(entry.get("config")) and (foreign or not _is_function(entry.get("config"), module)):
            yield f"function {name!r} of module {module!r} is not one of Keras that is known to compute only"
    elif foreign:
        yield f"{kind} {name!r} is to be imported from module {module!r}"
    elif kind in CALLS:
        if not computes(str(config.get("function"))):
            yield f"layer {name!r} calls tf.{config.get('function')}"
    elif kind in CODE_CLASSES:
        yield f"layer {name!r} is a {kind}, which {CODE_CLASSES[kind]}"
    elif kind not in CLASSES and module not in OPERATIONS:
        yield f"{name!r} is a {kind}, no class of Keras that is known to compute only; register it if it is yours"
    if isinstance(config.get("vocabulary"), str):
        yield f"layer {name!r} reads its vocabulary from file {config['vocabulary']!r}"


def _is_function(name: Any, module: Any) -> bool:
    return name in FUNCTIONS or module in OPERATIONS


def _name(entry: dict[str, Any]) -> str:
    config = entry.get("config")
    return str(config.get("name", "")) if isinstance(config, dict) else str(config or "")
