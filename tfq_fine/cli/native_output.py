"""The lines that native code prints to stderr: greetings of XNNPACK, oneDNN and CUDA, which tell a user nothing."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from absl import logging


@contextmanager
def hidden_native_output() -> Iterator[None]:
    """Drop what is written to descriptor 2 meanwhile, by this process and its children; Python's stderr stays.

    What Python prints and logs goes to a copy of the descriptor. Nothing is dropped where logs are asked for
    (`--verbosity=1`), or where stderr is closed.
    """
    if logging.get_verbosity() > logging.INFO or sys.stderr is None:
        yield
        return
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except OSError:
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        with _python_to(kept):
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _python_to(descriptor: int) -> Iterator[None]:
    """Let Python print and log its errors to a descriptor, unless its stderr goes elsewhere than to descriptor 2."""
    python, handler = sys.stderr, logging.get_absl_handler().python_handler
    try:
        elsewhere = python.fileno() != 2
    except (OSError, ValueError):
        elsewhere = True
    if elsewhere:
        yield
        return
    with os.fdopen(os.dup(descriptor), "w", buffering=1, errors="backslashreplace") as stream:
        sys.stderr, before, handler.stream = stream, handler.stream, stream
        try:
            yield
        finally:
            sys.stderr, handler.stream = python, before
