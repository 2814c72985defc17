"""`load_model`: a saved Keras model back in memory, wrappers included, whether Keras knows them yet or not."""

import importlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfq_converters.errors import TfqError, extras_named, printable
from tfq_converters.reading import load_model as load_with_keras


@extras_named()
def load_model(
    path: str | os.PathLike[str],
    custom_objects: Mapping[str, Any] | None = None,
    *,
    compile: bool = True,
    safe_mode: bool = True,
) -> Any:
    """Load a `.keras` or `.h5` file, as `keras.saving.load_model` does once Keras knows `FineQuantize`.

    Args:
        path: the file; one of Keras 2 that Keras 3 does not understand is loaded with tf_keras, and a warning says so.
        custom_objects: your own classes by name, where they are not registered.
        compile: compile the model as it was.
        safe_mode: refuse files that do more than compute (SECURITY.md).

    Raises:
        TfqError: the file is missing, damaged or unsafe, or no installed Keras loads it.
    """
    if not Path(path).is_file():
        raise TfqError(f"{path} is not a file; expected a model saved as .keras or .h5")
    importlib.import_module("tfq_fine.layers.fine_quantize")  # which registers the class with Keras
    model, notes = load_with_keras(Path(path), safe_mode, custom_objects, compile)
    for note in notes:
        logging.getLogger("tfq_fine").warning("%s", printable(note))
    return model
