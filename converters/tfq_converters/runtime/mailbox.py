"""Arrays that two processes hand each other through a mapped file, without a copy on the way."""

import base64
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfq_converters.graph import AnyArray

ALIGNMENT = 64


class Mailbox:
    """One file; one side puts arrays in, the other takes them out, in turns. It grows as it must."""

    def __init__(self, path: Path):
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._map: mmap.mmap | None = None

    def put(self, arrays: Sequence[AnyArray]) -> list[Any]:
        """Put arrays of any type and shape in; returns what `take` needs, as JSON takes it."""
        described: list[Any] = []
        pieces: list[tuple[int, AnyArray]] = []
        end = 0
        for array in arrays:
            if array.dtype.hasobject:  # strings
                texts = [text.encode() if isinstance(text, str) else bytes(text) for text in array.reshape(-1)]
                described.append(["", list(array.shape), [base64.b64encode(text).decode() for text in texts]])
                continue
            described.append([array.dtype.str, list(array.shape), end])
            pieces.append((end, array))
            end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        if end:
            content = self._mapped(end)
            for offset, array in pieces:
                np.frombuffer(content, array.dtype, array.size, offset)[:] = array.reshape(-1)
        return described

    def take(self, described: Sequence[Any]) -> list[AnyArray]:
        """Return copies of the arrays that the other side put in."""
        arrays = []
        for code, shape, where in described:
            if not code:
                texts = np.empty(len(where), object)
                texts[:] = [base64.b64decode(text) for text in where]
                arrays.append(texts.reshape(shape))
                continue
            dtype, size = np.dtype(code), int(np.prod(shape, dtype=np.int64))
            content = self._mapped(where + size * dtype.itemsize) if size else b""
            arrays.append(np.frombuffer(content, dtype, size, where if size else 0).reshape(shape).copy())
        return arrays

    def _mapped(self, size: int) -> mmap.mmap:
        if self._map is None or len(self._map) < size:
            if os.fstat(self._descriptor).st_size < size:
                os.ftruncate(self._descriptor, 2 * size)
            self._map = mmap.mmap(self._descriptor, os.fstat(self._descriptor).st_size)
        return self._map

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
