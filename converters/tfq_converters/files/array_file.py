"""Arrays by name in one file: what processes hand each other.

The file: the arrays' bytes, each aligned; a JSON index {name: [type, shape, offset]}; its length as 8 bytes.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from tfq_converters.graph import AnyArray

ALIGNMENT = 64


class ArrayFile(Mapping[str, AnyArray]):
    """A file that `ArrayWriter` wrote; an array is read each time that it is asked for, and not held."""

    def __init__(self, path: Path):
        self._file = path.open("rb")
        end = self._file.seek(-8, os.SEEK_END)
        start = end - int.from_bytes(self._file.read(8), "little")
        self._index: dict[str, tuple[str, list[int], int]] = json.loads(self._read(end - start, start))

    def _read(self, size: int, offset: int) -> bytes:
        return os.pread(self._file.fileno(), size, offset)

    def __getitem__(self, name: str) -> AnyArray:
        code, shape, offset = self._index[name]
        dtype = np.dtype(code)
        values = np.empty(shape, dtype)
        target = memoryview(values.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        read = os.preadv(self._file.fileno(), [target], offset) if values.size else 0
        assert read == values.nbytes, name
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def __del__(self) -> None:
        self._file.close()


class ArrayWriter:
    """Appends arrays to a file; nothing is held. Read it with `ArrayFile` after `close`."""

    def __init__(self, path: Path):
        self._file = path.open("wb")
        self._index: dict[str, tuple[str, tuple[int, ...], int]] = {}

    def add(self, name: str, values: AnyArray) -> None:
        """Append one array, of any type and shape."""
        self._file.write(bytes(-self._file.tell() % ALIGNMENT))
        self._index[name] = (values.dtype.str, values.shape, self._file.tell())
        self._file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)

    def close(self) -> None:
        """Write the index; the file is complete. Closing twice changes nothing."""
        if not self._file.closed:
            index = json.dumps(self._index).encode()
            self._file.write(index + len(index).to_bytes(8, "little"))
            self._file.close()
