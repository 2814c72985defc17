"""Arrays by name in one file, read as views of the mapped file: what processes hand each other.

The file: the arrays' bytes, each aligned; a JSON index {name: [type, shape, offset]}; its length as 8 bytes.
"""

import json
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

ALIGNMENT = 64


class ArrayFile(Mapping[str, np.ndarray]):
    """What `ArrayWriter` wrote; read-only views, valid as long as someone holds them."""

    def __init__(self, path: Path):
        with path.open("rb") as file:
            self._content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        end = len(self._content) - 8
        start = end - int.from_bytes(self._content[end:], "little")
        self._index: dict[str, tuple[str, list[int], int]] = json.loads(self._content[start:end])

    def __getitem__(self, name: str) -> np.ndarray:
        dtype, shape, offset = self._index[name]
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self._content, np.dtype(dtype), count, offset).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)


class ArrayWriter:
    """Appends arrays to a file; nothing is held. Read it with `ArrayFile` after `close`."""

    def __init__(self, path: Path):
        self._file = path.open("wb")
        self._index: dict[str, tuple[str, tuple[int, ...], int]] = {}

    def add(self, name: str, values: np.ndarray) -> None:
        """Append one array."""
        self._file.write(bytes(-self._file.tell() % ALIGNMENT))
        self._index[name] = (values.dtype.str, values.shape, self._file.tell())
        self._file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)

    def close(self) -> None:
        """Write the index; the file is complete. Closing twice changes nothing."""
        if not self._file.closed:
            index = json.dumps(self._index).encode()
            self._file.write(index + len(index).to_bytes(8, "little"))
            self._file.close()
