"""Checks of options that are words or counts, before any work is done."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfq_converters.errors import raise_all


def check_options(words: Mapping[str, tuple[Any, Sequence[str]]], counts: Mapping[str, int | None]) -> None:
    """Raise one error that names every option with a value that it cannot have.

    Args:
        words: option -> what was given, and the words that it may be.
        counts: option -> what was given: a number from 1, or None.

    Raises:
        TfqError: one error that lists all problems.
    """
    raise_all([*_bad_words(words), *_bad_counts(counts)])


def type_name(given: Any) -> Any:
    """Return the name of a type that is given as text, by NumPy or by TensorFlow; anything else as it is.

    >>> type_name("int8"), type_name(np.int8), type_name(np.dtype("uint8")), type_name(3)
    ('int8', 'int8', 'uint8', 3)
    """
    if isinstance(given, type) and issubclass(given, np.generic):
        return np.dtype(given).name
    name = getattr(given, "name", given)  # a dtype of NumPy or of TensorFlow has one
    return name if isinstance(name, str) else given


def _bad_words(words: Mapping[str, tuple[Any, Sequence[str]]]) -> Iterator[str]:
    for name, (value, words_of) in words.items():
        if value not in words_of:
            yield f"{name}={value!r}: expected one of {', '.join(words_of)}"


def _bad_counts(counts: Mapping[str, int | None]) -> Iterator[str]:
    for name, value in counts.items():
        if value is not None and value < 1:
            yield f"{name}={value}: expected at least 1"
