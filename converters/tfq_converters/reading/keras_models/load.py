"""Loading of a Keras model from a file or an object, and the framework that it belongs to."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tfq_converters.errors import TfqError
from tfq_converters.reading.conversion.silence import silenced
from tfq_converters.reading.safety.keras_code import refuse_code
from tfq_converters.reading.safety.keras_file import SavedConfig, read_config

Framework = Literal["keras", "tf_keras"]
KEPT_TEXT = 300  # characters of an error of Keras, which may hold the whole configuration of the model


def framework_of(model: object) -> str:
    """Return the framework of the class of `model`: "keras", "tf_keras", "tensorflow" or "". Imports nothing."""
    packages = {cls.__module__.split(".")[0] for cls in type(model).__mro__}
    return next((name for name in ("tf_keras", "keras", "tensorflow") if name in packages), "")


def keras_framework(model: object) -> Framework:
    """Return the framework of a model that can be converted.

    Raises:
        TfqError: it is no built Keras 3 or tf_keras model on the TensorFlow backend.
    """
    framework = framework_of(model)
    accepted = "a built Keras or tf_keras model, or a path to .keras, .h5, .tflite or a SavedModel folder"
    kind = type(model).__name__
    if framework == "tensorflow":
        raise TfqError(
            f"a {kind} of TensorFlow is not a Keras model; save it with tf.saved_model.save, pass the folder"
        )
    if framework not in ("keras", "tf_keras") or not hasattr(model, "weights") or not hasattr(model, "layers"):
        raise TfqError(f"expected {accepted}; received an object of class {kind}")
    backend = importlib.import_module("keras").backend.backend() if framework == "keras" else "tensorflow"
    if backend != "tensorflow":
        raise TfqError(
            f"the model runs on the Keras backend {backend!r}; set KERAS_BACKEND=tensorflow and load it again"
        )
    if not getattr(model, "built", False):
        raise TfqError(f"model {getattr(model, 'name', kind)!r} is not built; call it once on data, or call build()")
    return "keras" if framework == "keras" else "tf_keras"


def load_model(
    path: Path, safe_mode: bool, custom_objects: Mapping[str, Any] | None = None, compile: bool = False
) -> tuple[Any, list[str]]:
    """Load a `.keras` or `.h5` file with Keras 3; a file of Keras 2 that only tf_keras understands, with tf_keras.

    Args:
        path: the file.
        safe_mode: refuse files that are made of more than layers and functions that compute.
        custom_objects: classes by name, next to those that are registered.
        compile: compile the model as it was.

    Returns:
        The model, and notes on how it was loaded.

    Raises:
        TfqError: the file is damaged, unsafe, or no installed Keras loads it.
    """
    saved = read_config(path)
    if safe_mode:
        refuse_code(path, saved, ("keras", "tf_keras"), custom_objects)
    options = {"custom_objects": custom_objects, "compile": compile, "safe_mode": safe_mode}
    keras = importlib.import_module("keras")
    try:
        with silenced():
            return keras.saving.load_model(str(path), **options), []
    except Exception as error:  # Keras raises every kind of error on files that it does not understand
        if not saved.keras_version.startswith("2."):
            raise TfqError(f"Keras does not load {path}: {_first_lines(error)}") from error
        return _load_with_tf_keras(path, saved, error, options)


def _load_with_tf_keras(
    path: Path, saved: SavedConfig, reason: Exception, options: Mapping[str, Any]
) -> tuple[Any, list[str]]:
    said = f"{path} was written by Keras {saved.keras_version} and Keras 3 does not load it ({_first_lines(reason, 1)})"
    if options["safe_mode"]:
        refuse_code(path, saved, ("tf_keras",), options["custom_objects"])
    try:
        with silenced():
            tf_keras = importlib.import_module("tf_keras")
            model = tf_keras.models.load_model(str(path), **options)
    except ImportError as error:
        raise TfqError(f'{said}; install tf_keras to load it: pip install "tfq-fine[keras2]"') from error
    except Exception as error:  # see above
        raise TfqError(f"{said}, nor does tf_keras: {_first_lines(error)}") from error
    return model, [f"{said}; it was loaded with tf_keras"]


def _first_lines(error: Exception, count: int = 4) -> str:
    text = " ".join(str(error).strip().splitlines()[:count]) or type(error).__name__
    return text if len(text) <= KEPT_TEXT else f"{text[:KEPT_TEXT]} ..."
