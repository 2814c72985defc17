"""Data in files. Nothing in a file can run code: arrays of Python objects are refused."""

import os
import re
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from tfq_converters.errors import TfqError
from tfq_converters.graph import AnyArray

LABEL_NAMES = ("labels", "y")
# what NumPy and zipfile raise on bytes that they did not write; RuntimeError: encryption, unknown compression
DAMAGE = (ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error, tokenize.TokenError)


def read_file(path: str | os.PathLike[str], input_names: list[str]) -> tuple[Any, AnyArray | None]:
    """Return the element and the labels in a `.npz` or `.npy` file, arrays [n, ...]; `.npy` is mapped, not read.

    Raises:
        TfqError: the file is missing, damaged, of another kind, or holds Python objects.
    """
    where = Path(path)
    try:
        if where.suffix == ".npy":
            return np.lib.format.open_memmap(where, mode="r"), None
        if where.suffix == ".npz":
            with where.open("rb") as file, np.load(file, allow_pickle=False) as content:
                return _named({name: content[name] for name in content.files}, input_names)
    except OSError as error:
        raise TfqError(f"{where} cannot be read: {error.strerror or error}") from error
    except DAMAGE as error:
        raise TfqError(f"{where} cannot be read as {where.suffix} without pickle: {error}") from error
    raise TfqError(f"{where} is neither a .npz nor a .npy file")


def _named(arrays: dict[str, AnyArray], input_names: list[str]) -> tuple[Any, AnyArray | None]:
    label_name = next((name for name in LABEL_NAMES if name in arrays and name not in input_names), "")
    labels = arrays.pop(label_name, None)
    if len(arrays) == 1 and len(input_names) == 1:
        return next(iter(arrays.values())), labels
    if arrays and all(re.fullmatch(r"arr_\d+", name) and name not in input_names for name in arrays):
        return [arrays[name] for name in sorted(arrays, key=lambda name: int(name[4:]))], labels
    return arrays, labels
