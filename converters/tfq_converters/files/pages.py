"""Pages of mapped files that are no longer needed, given back to the system, which loads them again on demand."""

import ctypes
import mmap
import sys
from collections.abc import Iterator
from pathlib import Path

_MADVISE = getattr(ctypes.CDLL(None), "madvise", None) if sys.platform == "linux" else None
_MAPS = Path("/proc/self/maps")


def forget_file(path: str) -> None:
    """Give back the pages of every read-only mapping of `path` in this process; on Linux, else nothing is done."""
    if _MADVISE is not None and _MAPS.exists():
        for start, end in _mappings(path):
            _MADVISE(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def _mappings(path: str) -> Iterator[tuple[int, int]]:
    """Yield (first address, address after the last) of the read-only mappings of `path`."""
    for line in _MAPS.read_text().splitlines():
        addresses, mode, _, _, _, *name = line.split(maxsplit=5)
        if mode[1] == "-" and name and name[0].removesuffix(" (deleted)") == path:
            start, end = addresses.split("-")
            yield int(start, 16), int(end, 16)
