"""Values in brief: the ten lines that one prints as, however much it holds."""

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping, Sized
from typing import Any

import numpy as np

WIDTH, LINES = 100, 10  # characters of a line, and lines
PLAIN = (bool, int, float, str, type(None))
FEW = 4  # plain items of a collection that are shown
TEXT = 60  # characters of a part that are shown


def first_lines(text: str) -> str:
    """Return the first ten lines of a text, or nine and how many more there are."""
    lines = text.splitlines()
    return text if len(lines) <= LINES else "\n".join([*lines[: LINES - 1], f"... {len(lines) - LINES + 1} more lines"])


def brief(value: Any) -> str:
    """Return the `repr` of a dataclass in at most ten lines: its fields that are not as by default, each in brief.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Layer:
    ...     name: str
    ...     codes: Any
    ...     parts: tuple = ()
    ...     note: str = ""
    ...     __repr__ = brief
    >>> Layer("head", np.zeros((3, 5), np.int8), tuple(Layer(str(n), None) for n in range(9)))
    Layer(name='head', codes=<int8 [3, 5]>, parts=<9 Layer>)
    """
    name, parts = type(value).__name__, list(_fields(value))
    line = f"{name}({', '.join(parts)})"
    if len(line) <= WIDTH:
        return line
    most = LINES - 2
    if len(parts) > most:
        parts = [*parts[: most - 1], f"... {len(parts) - most + 1} more fields"]
    return "\n".join([f"{name}(", *(f"  {part}," for part in parts), ")"])


def _fields(value: Any) -> Iterator[str]:
    for field in dataclasses.fields(value):
        held = getattr(value, field.name)
        if field.repr and not (held is field.default or _is_empty(field, held)):
            yield f"{field.name}={_part(held)}"


def _is_empty(field: "dataclasses.Field[Any]", held: Any) -> bool:
    """Return whether a field has the value that it has where nothing is said."""
    if isinstance(held, PLAIN):
        return bool(held == field.default)
    optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    return optional and isinstance(held, Sized) and not isinstance(held, np.ndarray) and len(held) == 0


def _part(held: Any) -> str:
    """Return a value within another one: in full where it is short and plain, else its kind and how many it holds."""
    if isinstance(held, float) and math.isfinite(held):
        return f"{held:.6g}"
    if isinstance(held, PLAIN):
        text = repr(held)
        return text if len(text) <= TEXT else f"{text[: TEXT - 4]} ...{text[0]}"
    if isinstance(held, np.ndarray):
        return f"<{held.dtype} {list(held.shape)}>"
    if isinstance(held, bytes | bytearray):
        return f"<{len(held):,} bytes>"
    if isinstance(held, Collection):
        return _collection(held)
    if dataclasses.is_dataclass(held):
        line = f"{type(held).__name__}({', '.join(_fields(held))})"
        return line if len(line) <= WIDTH else f"{type(held).__name__}(...)"
    return f"<{type(held).__name__}>"


def _collection(held: Collection[Any]) -> str:
    items = list(held.values() if isinstance(held, Mapping) else held)[:FEW]
    if len(held) <= FEW and all(isinstance(item, PLAIN) for item in items) and len(text := repr(held)) <= TEXT:
        return text
    return f"<{len(held):,} {type(items[0]).__name__}>" if items else repr(held)
