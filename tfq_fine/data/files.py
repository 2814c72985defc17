"""Data in files. Nothing in a file can run code: arrays of Python objects are refused."""

import csv
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
    """Return the element and the labels in a `.npz`, `.npy` or `.csv` file; `.npy` is mapped, not read.

    Arrays are [n, ...]. A `.csv` file has a sample in each line and a number in each column; a first line of names may
    call one column `labels` or `y`.

    Raises:
        TfqError: the file is missing, damaged, of another kind, or holds Python objects.
    """
    where = Path(path)
    try:
        if where.suffix == ".npy":
            return np.lib.format.open_memmap(where, mode="r"), None
        if where.suffix == ".csv":
            return _table(where)
        if where.suffix == ".npz":
            with where.open("rb") as file, np.load(file, allow_pickle=False) as content:
                return _named({name: content[name] for name in content.files}, input_names)
    except OSError as error:
        raise TfqError(f"{where} cannot be read: {error.strerror or error}") from error
    except DAMAGE as error:
        raise TfqError(f"{where} cannot be read as {where.suffix} without pickle: {error}") from error
    if where.is_dir():
        raise TfqError(
            f"{where} is a folder: images are read with their size, as `--image-size 224x224` on the command line or "
            "tfq.ImageFolder(folder, size=(224, 224)) in Python"
        )
    raise TfqError(f"{where} is none of .npz, .npy and .csv")


def _table(where: Path) -> tuple[Any, AnyArray | None]:
    """Return the columns [n, columns] of a table of numbers, and those of its labels [n]."""
    with where.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row]
    names = [] if not rows or all(_is_number(cell) for cell in rows[0]) else [name.strip() for name in rows.pop(0)]
    for number, row in enumerate(rows, 1 + bool(names)):
        if len(row) != len(rows[0]):
            raise TfqError(f"{where}: line {number} has {len(row)} columns, the first one {len(rows[0])}")
        wrong = next((cell for cell in row if not _is_number(cell)), None)
        if wrong is not None:
            raise TfqError(f"{where}: line {number} holds {wrong!r}, which is no number")
    values = np.array([[float(cell) for cell in row] for row in rows], np.float32).reshape(len(rows), -1)
    column = next((names.index(name) for name in LABEL_NAMES if name in names), None)
    return (values, None) if column is None else (np.delete(values, column, axis=1), values[:, column])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _named(arrays: dict[str, AnyArray], input_names: list[str]) -> tuple[Any, AnyArray | None]:
    label_name = next((name for name in LABEL_NAMES if name in arrays and name not in input_names), "")
    labels = arrays.pop(label_name, None)
    if len(arrays) == 1 and len(input_names) == 1:
        return next(iter(arrays.values())), labels
    if arrays and all(re.fullmatch(r"arr_\d+", name) and name not in input_names for name in arrays):
        return [arrays[name] for name in sorted(arrays, key=lambda name: int(name[4:]))], labels
    return arrays, labels
