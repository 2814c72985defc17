"""One way to write files: a reader sees the old content or the new one, and nothing but a regular file is replaced.

A regular file is written next to itself under a random name and renamed. Symbolic links are followed. A device, a FIFO
and an open descriptor (`/dev/stdout`) are written into. A writer locks its unfinished file as long as it lives, so that
the next writer can tell and remove those of writers that were killed.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from tfq_converters.errors import TfqError

Place = str | os.PathLike[str] | int  # a path, or the number of an open descriptor

STEM = 50  # characters of a name that its unfinished file keeps: a name may have 255 bytes
DESCRIPTORS = ("/proc/", "/dev/fd/")  # folders whose entries stand for open files
MAX_LINKS = 40  # symbolic links that are followed, as Linux does
_unfinished: set[str] = set()  # by this process: where locks belong to processes (NFS), they would not tell


def write_file(place: Place, content: Iterable[bytes | memoryview]) -> None:
    """Write `content`, one piece after the other.

    Args:
        place: a path, or the number of an open descriptor, which is written into.
        content: the pieces; when making one fails, the place keeps what it held.

    Raises:
        TfqError: the place cannot be written.
        BrokenPipeError: nobody reads the descriptor any more, as `head` does when it has enough.
    """
    try:
        if isinstance(place, int):
            _write_all(place, content)
            return
        path = os.fspath(place)
        if _is_written_into(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
            try:
                _write_all(descriptor, content)
            finally:
                os.close(descriptor)
        else:
            _replace(Path(os.path.realpath(path)), content)
    except OSError as error:
        if isinstance(place, int) and isinstance(error, BrokenPipeError):
            raise
        shown = f"descriptor {place}" if isinstance(place, int) else os.fspath(place)
        raise TfqError(f"{shown} cannot be written: {error.strerror}") from error


def _is_written_into(path: str) -> bool:
    """Return whether `path` is a device, FIFO or open descriptor, in contrast to a regular file or no file yet."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return not stat.S_ISREG(mode) or _names_descriptor(path)


def _names_descriptor(path: str) -> bool:
    """Return whether `path` is, or links to, an entry of a folder of open descriptors."""
    for _ in range(MAX_LINKS):
        folder, name = os.path.split(os.path.abspath(path))
        path = os.path.join(os.path.realpath(folder), name)
        if path.startswith(DESCRIPTORS):
            return True
        if not os.path.islink(path):
            return False
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    return False


def _write_all(descriptor: int, content: Iterable[bytes | memoryview]) -> None:
    for piece in content:
        left = memoryview(piece).cast("B")
        while left:
            left = left[os.write(descriptor, left) :]


def _replace(target: Path, content: Iterable[bytes | memoryview]) -> None:
    """Write an unfinished file next to `target` and rename it; the mode and owner of an existing file are kept."""
    before = target.stat() if target.exists() else None
    if before is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    _clear_unfinished(target)
    with _unfinished_file(target) as (descriptor, path):
        _write_all(descriptor, content)
        if before is not None:
            with contextlib.suppress(PermissionError):  # only root may give a file to another owner
                os.fchown(descriptor, before.st_uid, before.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
        os.replace(path, target)


@contextlib.contextmanager
def _unfinished_file(target: Path) -> Iterator[tuple[int, str]]:
    """Create a locked file next to `target`, yield its descriptor and path, and remove it if it still has that name."""
    while True:
        path = str(target.with_name(f"{_prefix(target)}{secrets.token_hex(8)}.part"))
        _unfinished.add(path)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            try:
                lock(descriptor)
                if os.fstat(descriptor).st_nlink:  # else another writer took it for a dead one's before it was locked
                    yield descriptor, path
                    return
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                os.close(descriptor)
        finally:
            _unfinished.discard(path)


def _prefix(target: Path) -> str:
    return f".{target.name[:STEM]}."


def _clear_unfinished(target: Path) -> None:
    """Remove the unfinished files of writers of `target` that no longer live."""
    prefix = _prefix(target)
    for name in os.listdir(target.parent):
        path = str(target.with_name(name)) if name.startswith(prefix) else ""
        if name.endswith(".part") and len(name) == len(prefix) + 21 and path and path not in _unfinished:
            with contextlib.suppress(OSError):  # another one's, or gone meanwhile
                _remove_unless_locked(path)


def _remove_unless_locked(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and is_free(descriptor):
            os.unlink(path)
    finally:
        os.close(descriptor)


def lock(descriptor: int) -> None:
    """Lock a file or folder until the descriptor is closed or the process ends; nothing where there are no locks."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def is_free(descriptor: int) -> bool:
    """Return whether nobody locks the file or folder; this descriptor locks it then."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
