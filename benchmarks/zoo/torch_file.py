"""Read the tensors of a state dict that torch.save wrote before version 1.6 (not a zip file), without torch.

The file is a row of pickles: a magic number, a protocol version, facts about the machine, the state dict, the list of
the storages' keys; then each storage in that order, as an int64 count and the values.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


@dataclass(frozen=True)
class _Storage:
    """A flat piece of memory, known by its key until its values are read."""

    dtype: np.dtype[Any]
    key: str


@dataclass(frozen=True)
class _View:
    """A tensor as a part of a storage; offset and strides count values."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _View:
    return _View(storage, offset, shape, strides)


_ALLOWED: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}


class _Unpickler(pickle.Unpickler):
    """Loads only the classes of a state dict of float and int64 tensors, so a file cannot run code."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a state dict") from None

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _location, _count, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"expected a whole storage, found {pid!r}")
        return _Storage(dtype, key)


def read_state_dict(content: bytes) -> dict[str, NDArray[Any]]:
    """Name -> array of every tensor in the file, copies of their own."""
    file = io.BytesIO(content)
    head = [_Unpickler(file).load() for _ in range(3)]  # the third: facts about the machine
    if head[:2] != [_MAGIC, _PROTOCOL] or not head[2]["little_endian"]:
        raise ValueError(f"expected a little-endian torch file of protocol {_PROTOCOL}, found {head}")
    views: dict[str, _View] = _Unpickler(file).load()
    keys: list[str] = _Unpickler(file).load()
    dtypes = {view.storage.key: view.storage.dtype for view in views.values()}
    storages = {key: _read_storage(file, dtypes[key]) for key in keys}
    return {name: _array(view, storages[view.storage.key]) for name, view in views.items()}


def _read_storage(file: io.BytesIO, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the next storage's values (count,)."""
    count = int.from_bytes(file.read(8), "little")
    return np.frombuffer(file.read(count * dtype.itemsize), dtype, count)


def _array(view: _View, storage: NDArray[Any]) -> NDArray[Any]:
    """Return the values of a tensor; refuses one that reaches outside its storage."""
    if 0 in view.shape:
        return np.zeros(view.shape, storage.dtype)
    steps = [stride * (side - 1) for side, stride in zip(view.shape, view.strides, strict=True)]
    if min([view.offset, *view.strides]) < 0 or view.offset + sum(steps) >= storage.size:
        raise ValueError(f"{view} reaches outside its storage of {storage.size} values")
    strides = [stride * storage.itemsize for stride in view.strides]
    return as_strided(storage[view.offset :], view.shape, strides).copy()
