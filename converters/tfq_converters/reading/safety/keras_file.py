"""The architecture in a saved Keras file, read before anything opens the file."""

import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfq_converters.errors import TfqError

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
MOST_TEXT = 2**28  # bytes of an architecture; the largest of keras.applications has 1.6 MB
DAMAGED = (LookupError, ValueError, TypeError, AttributeError, OSError, RuntimeError, EOFError, MemoryError)
DAMAGED_ARCHIVE = (zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class SavedConfig:
    """The architecture in a saved Keras file, as plain JSON values, and the Keras version that wrote it."""

    config: Any
    keras_version: str
    training: Any = None  # the optimizer, losses and metrics of an `.h5` file; a `.keras` file has them in `config`
    archive: bool = False  # a `.keras` file
    outside: tuple[str, ...] = ()  # datasets whose values are in other files


def read_config(path: Path) -> SavedConfig:
    """Return the architecture of a `.keras` or `.h5` file, without building anything.

    Raises:
        TfqError: the file is damaged, holds weights only, is two files in one, or unpacks to far more than it is.
    """
    try:
        if zipfile.is_zipfile(path):
            return _read_archive(path)
        return _read_hdf5(path)
    except TfqError:
        raise
    except (*DAMAGED, *DAMAGED_ARCHIVE) as error:
        raise TfqError(f"{path} is not a Keras model file, or is damaged: {error}") from error


def _read_archive(path: Path) -> SavedConfig:
    import h5py  # comes with Keras

    if h5py.is_hdf5(path):  # Keras would read one of them, and this module the other
        raise TfqError(f"{path} is a zip archive and an HDF5 file at once; expected one of them")
    with zipfile.ZipFile(path) as archive:
        for name in (METADATA, CONFIG):
            size = archive.getinfo(name).file_size
            if size > MOST_TEXT:
                raise TfqError(f"{path}: {name} unpacks to {size:,} bytes; expected at most {MOST_TEXT:,}")
        version = json.loads(archive.read(METADATA)).get("keras_version", "")
        config = json.loads(archive.read(CONFIG))
        outside: tuple[str, ...] = ()
        if WEIGHTS in archive.namelist():
            with archive.open(WEIGHTS) as stream, h5py.File(stream, "r") as file:
                outside = _outside(file)
    return SavedConfig(config, str(version), archive=True, outside=outside)


def _read_hdf5(path: Path) -> SavedConfig:
    import h5py

    with h5py.File(path, "r") as file:
        if "model_config" not in file.attrs:
            raise TfqError(f"{path} holds weights only; build the model, call load_weights, and pass the model")
        names = ("model_config", "keras_version", "training_config")
        config, version, training = (_text(file.attrs.get(name, "")) for name in names)
        return SavedConfig(json.loads(config), version, json.loads(training or "null"), outside=_outside(file))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _outside(file: Any) -> tuple[str, ...]:
    """Return the names of links and datasets of an HDF5 file whose values come from other files."""
    import h5py

    names: list[str] = []

    def see_link(name: str, link: Any) -> None:
        if isinstance(link, h5py.ExternalLink):
            names.append(name)

    def see_object(name: str, value: Any) -> None:
        if isinstance(value, h5py.Dataset) and (value.external or value.is_virtual):
            names.append(name)

    file.visititems_links(see_link)
    file.visititems(see_object)
    return tuple(names)
