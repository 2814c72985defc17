"""Keeping a noisy library quiet without losing what it said."""

import contextlib
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from logging import Logger, StreamHandler
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


class _Silence:
    """The one silence of this process: the first that enters makes it, the last that leaves ends it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._count = 0
        self._stack = contextlib.ExitStack()
        self._sinks: list[tuple[BinaryIO, TextIO]] = []  # (the file that catches, what writes to it), of a silence

    def enter(self) -> int:
        """Begin; return how much had been caught by then."""
        with self._lock:
            if not self._count:
                with contextlib.ExitStack() as stack:
                    sink = stack.enter_context(tempfile.TemporaryFile())
                    stack.enter_context(_descriptors_into(sink))
                    stack.enter_context(warnings.catch_warnings())
                    warnings.simplefilter("ignore")
                    target = os.dup(sink.fileno())
                    writer = stack.enter_context(open(target, "w", errors="replace", buffering=1))
                    stack.enter_context(_handlers_into(writer))
                    stack.enter_context(_streams_into(writer))
                    self._stack, self._sinks = stack.pop_all(), [(sink, writer)]
            self._count += 1
            return self._size()

    def leave(self) -> None:
        """End, unless others are still in it."""
        with self._lock:
            self._count -= 1
            if not self._count:
                self._sinks = []
                self._stack.close()

    def _size(self) -> int:
        ((sink, writer),) = self._sinks
        writer.flush()
        return os.fstat(sink.fileno()).st_size

    def caught(self, start: int) -> str:
        """Return the text that was caught since there were `start` bytes."""
        with self._lock:
            size, ((sink, _),) = self._size(), self._sinks
            return os.pread(sink.fileno(), size - start, start).decode(errors="replace")


_SILENCE = _Silence()


@contextlib.contextmanager
def silenced() -> Iterator[Callable[[], str]]:
    """Catch everything printed to stdout and stderr, by Python or by native code, and hide warnings.

    The file descriptors are the process's own, so that what other threads print meanwhile is caught as well. Several
    threads may be silent at a time; the descriptors are put back when the last one is done.

    Yields:
        A function that returns the text caught so far.
    """
    start = _SILENCE.enter()
    try:
        yield lambda: _SILENCE.caught(start)
    finally:
        _SILENCE.leave()


@contextlib.contextmanager
def _handlers_into(writer: TextIO) -> Iterator[None]:
    """Point handlers of loggers that write to the terminal to `writer`: a notebook's streams use no descriptor."""
    terminal = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    loggers = [logging.root, *(each for each in logging.root.manager.loggerDict.values() if isinstance(each, Logger))]
    handlers = [handler for logger in loggers for handler in logger.handlers if isinstance(handler, StreamHandler)]
    before = [
        (handler, handler.stream)
        for handler in handlers
        if isinstance(handler.stream, _Switched) or any(handler.stream is each for each in terminal)
    ]
    for handler, _ in before:
        handler.setStream(writer)
    try:
        yield
    finally:
        for handler, stream in before:
            handler.setStream(stream)


@contextlib.contextmanager
def _streams_into(writer: TextIO) -> Iterator[None]:
    """Point `sys.stdout` and `sys.stderr` to `writer`, and back at the end, unless somebody else pointed them away."""
    before = sys.stdout, sys.stderr
    during = _Switched(writer), _Switched(writer)
    sys.stdout, sys.stderr = during
    try:
        yield
    finally:
        if sys.stdout is during[0]:
            sys.stdout = before[0]
        if sys.stderr is during[1]:
            sys.stderr = before[1]
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
        try:
            _flush()
        finally:
            try:
                _put_back(saved)
            except KeyboardInterrupt:
                _put_back(saved)
                raise
            for _, copy in saved:
                os.close(copy)


def _put_back(saved: Sequence[tuple[int, int]]) -> None:
    """Give every descriptor what its copy has; may be done again."""
    for descriptor, copy in saved:
        os.dup2(copy, descriptor)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
