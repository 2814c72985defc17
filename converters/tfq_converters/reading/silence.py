"""Keeping a noisy library quiet without losing what it said."""

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TextIO


class _Switched:
    """A text stream that can be pointed elsewhere: loggers born in a silence keep their stream for good."""

    def __init__(self, target: TextIO | None):
        self.target = target

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)

    def write(self, text: str) -> int:
        return len(text) if self.target is None or self.target.closed else self.target.write(text)

    def flush(self) -> None:
        if self.target is not None and not self.target.closed:
            self.target.flush()


@contextlib.contextmanager
def silenced() -> Iterator[Callable[[], str]]:
    """Catch everything printed to stdout and stderr, by Python or by native code, and hide warnings.

    The file descriptors are the process's own: what other threads print meanwhile is caught as well.

    Yields:
        A function that returns the text caught so far.
    """
    with tempfile.TemporaryFile() as sink, _descriptors_into(sink), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open(os.dup(sink.fileno()), "w", errors="replace", buffering=1) as writer, _streams_into(writer):

            def caught() -> str:
                writer.flush()
                return os.pread(sink.fileno(), os.fstat(sink.fileno()).st_size, 0).decode(errors="replace")

            yield caught


@contextlib.contextmanager
def _streams_into(writer: TextIO) -> Iterator[None]:
    """Point `sys.stdout` and `sys.stderr` to `writer`, and back at the end."""
    before = sys.stdout, sys.stderr
    during = _Switched(writer), _Switched(writer)
    sys.stdout, sys.stderr = during
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream, original in zip(during, before, strict=True):
            stream.target = original


@contextlib.contextmanager
def _descriptors_into(sink: BinaryIO) -> Iterator[None]:
    """Point descriptors 1 and 2 to `sink`, and back at the end; a closed descriptor stays closed."""
    saved: list[tuple[int, int]] = []
    try:
        for descriptor in (1, 2):
            with contextlib.suppress(OSError):  # a process without this stream has nothing to keep quiet
                saved.append((descriptor, os.dup(descriptor)))
        _flush()
        for descriptor, _ in saved:
            os.dup2(sink.fileno(), descriptor)
        yield
    finally:
        _flush()
        for descriptor, copy in saved:
            os.dup2(copy, descriptor)
            os.close(copy)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
