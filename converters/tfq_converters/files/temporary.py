"""Temporary folders: locked as long as they are used, so that the next run can tell and remove those of killed runs."""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tfq_converters.errors import TfqError
from tfq_converters.files.writing import is_free, lock

PREFIX, RANDOM = "tfq_fine.run.", 8  # characters that `mkdtemp` adds
_used: set[str] = set()  # by this process: where locks belong to processes (NFS), they would not tell


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Create a folder that only this process uses, and remove it at the end.

    Raises:
        TfqError: there is no room for it.
    """
    clear_abandoned()
    path, descriptor = _made()
    try:
        yield Path(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)
        _used.discard(path)


def _made() -> tuple[str, int]:
    """Return a new folder and the descriptor that locks it."""
    while True:
        try:
            path = tempfile.mkdtemp(prefix=PREFIX)
        except OSError as error:
            raise TfqError(f"no temporary folder can be made in {tempfile.gettempdir()}: {error.strerror}") from error
        _used.add(path)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:  # another run took it for abandoned before it was locked
            _used.discard(path)
            continue
        lock(descriptor)
        if os.path.isdir(path):
            return path, descriptor
        os.close(descriptor)
        _used.discard(path)


def clear_abandoned() -> None:
    """Remove the temporary folders of this user that nobody locks."""
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            named = entry.name.startswith(PREFIX) and len(entry.name) == len(PREFIX) + RANDOM
            if named and entry.path not in _used:
                with contextlib.suppress(OSError):  # another user's, or gone meanwhile
                    _remove_unless_locked(entry.path)


def _remove_unless_locked(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and is_free(descriptor):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)
