"""How many samples there are, where that can be told without reading them."""

import os
import zipfile
from typing import IO, Any

import numpy as np

from tfq_fine.data.source import is_array


def known_count(data: Any, limit: int | None = None) -> int | None:
    """Return the number of samples that `data` holds, at most `limit`; None where only reading tells."""
    count = _count(data)
    return count if count is None or limit is None else min(count, limit)


def _count(data: Any) -> int | None:
    if isinstance(data, str | os.PathLike):
        return _count_in_file(os.fspath(data))
    if is_array(data) and getattr(data, "shape", None):
        return int(data.shape[0])
    if isinstance(data, dict) and data:
        return _count(next(iter(data.values())))
    if isinstance(data, tuple) and data:
        return _count(data[0])
    return None


def _count_in_file(path: str) -> int | None:
    """Return the length of the first array of a .npy or .npz file, by its header; None for what is neither."""
    try:
        if not zipfile.is_zipfile(path):
            with open(path, "rb") as stream:
                return _rows(stream)
        with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as member:
            return _rows(member)
    except (OSError, ValueError, IndexError):  # whoever reads the file says what is wrong with it
        return None


def _rows(stream: IO[bytes]) -> int | None:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, _ = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, _, _ = np.lib.format.read_array_header_2_0(stream)
    return int(shape[0]) if shape else None
