"""Keras models and SavedModels that are converted once, however often a test module has them read.

TFLiteConverter takes seconds where the rest takes milliseconds, and gives the same bytes for the same model: one with
the same configuration, weights and inputs, whichever Python object it is. Reading a model is otherwise as ever: the
layers are traced and the file is compared with Keras each time. It is not for modules that test conversion itself.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfq_converters.reading import reader
from tfq_converters.reading.conversion.convert import Conversion
from tfq_converters.reading.keras_models.call import KerasCall


def _key(call: KerasCall, settings: Mapping[str, Any]) -> str:
    """What the conversion of a Keras model follows from."""
    weights = hashlib.sha256()
    for weight in call.model.weights:
        weights.update(np.asarray(weight).tobytes())
    arguments = [(argument.name, argument.shape, argument.dtype) for argument in call.arguments]
    return repr((call.framework, call.model.to_json(), weights.hexdigest(), arguments, sorted(settings.items())))


def _folder_key(folder: Path, keys: list[str], settings: Mapping[str, Any]) -> str:
    """What the conversion of a SavedModel follows from."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = [(str(path.relative_to(folder)), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
    return repr((digests, keys, sorted(settings.items())))


@contextmanager
def shared_conversions() -> Iterator[None]:
    """Within the block, equal models are converted once."""
    convert, convert_folder, conversions = reader.convert_model, reader.convert_folder, dict[str, Conversion]()

    def once(call: KerasCall, settings: Mapping[str, Any], layer_of: Callable[[str], str]) -> Conversion:
        key = _key(call, settings)
        if key not in conversions:
            conversions[key] = convert(call, settings, layer_of)
        return conversions[key]

    def folder_once(folder: Path, keys: list[str], settings: Mapping[str, Any], name: str) -> Conversion:
        key = _folder_key(folder, keys, settings)
        if key not in conversions:
            conversions[key] = convert_folder(folder, keys, settings, name)
        return conversions[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "convert_model", once)
        patch.setattr(reader, "convert_folder", folder_once)
        yield
