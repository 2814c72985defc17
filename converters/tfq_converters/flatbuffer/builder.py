"""A flatbuffers builder that stores equal vectors, names and table layouts once, and writes a table with one call.

The library's builder writes every field of every table through several Python functions, which takes most of the time
of packing a small file; here the fields of a table are collected and packed at once.
"""

import struct
from dataclasses import dataclass
from functools import cache
from typing import Any

import flatbuffers
import numpy as np
from flatbuffers import number_types

from tfq_converters.graph import AnyArray

_OFFSET = "I"  # a field that points to a vector, a string or another table
_CODES = {
    number_types.BoolFlags: "?",
    number_types.Uint8Flags: "B",
    number_types.Uint16Flags: "H",
    number_types.Uint32Flags: "L",
    number_types.Uint64Flags: "Q",
    number_types.Int8Flags: "b",
    number_types.Int16Flags: "h",
    number_types.Int32Flags: "l",
    number_types.Int64Flags: "q",
    number_types.Float32Flags: "f",
    number_types.Float64Flags: "d",
}


@dataclass(frozen=True)
class _Layout:
    """The layout of a table: its vtable, then the distance to the vtable, then the fields."""

    fields: struct.Struct
    order: tuple[int, ...]  # which field comes when
    pointers: tuple[tuple[int, int], ...]  # (place in that order, bytes from the start of the table)
    alignment: int
    vtable: bytes


@cache
def _layout(kinds: tuple[tuple[int, str], ...]) -> _Layout:
    """Return the layout of a table with the given fields (schema number, code of `struct`), large fields first."""
    order = sorted(range(len(kinds)), key=lambda n: -struct.calcsize(f"<{kinds[n][1]}"))
    slots = [0] * (1 + max((number for number, _ in kinds), default=-1))
    text, size, alignment, pointers = "<i", 4, 4, []
    for place, n in enumerate(order):
        number, code = kinds[n]
        width = struct.calcsize(f"<{code}")
        text += "x" * (-size % width)
        size += -size % width
        alignment = max(alignment, width)
        slots[number] = size
        if code == _OFFSET:
            pointers.append((place, size))
        text, size = text + code, size + width
    vtable = struct.pack(f"<{2 + len(slots)}H", 4 + 2 * len(slots), size, *slots)
    return _Layout(struct.Struct(text), tuple(order), tuple(pointers), alignment, vtable)


class Builder(flatbuffers.Builder):  # type: ignore[misc, unused-ignore]
    """Takes the place of the library's builder in `Pack` of the object API."""

    def __init__(self, size: int):
        super().__init__(0)
        self.Bytes, self.head = np.zeros(size, np.uint8).data, size  # takes no memory where it is not written to
        self._known: dict[tuple[str, bytes], int] = {}  # what is stored, by its type and content
        self._kinds: list[tuple[int, str]] = []  # number and code of every field of the table at hand
        self._values: list[Any] = []
        self.left_out: list[tuple[int, AnyArray]] = []  # place of its end, what belongs there: large constants

    def CreateNumpyVector(self, x: AnyArray) -> int:  # noqa: N802 - the builder's name, as all below
        """Write a vector of numbers, unless an equal one is there; returns its place."""
        return self._vector(x.dtype.str, x.astype(x.dtype.newbyteorder("<"), copy=False).tobytes(), x.size, x.itemsize)

    def CreateString(self, s: str | bytes, *args: Any) -> int:  # noqa: N802
        """Write a string, unless an equal one is there; returns its place."""
        content = s.encode() if isinstance(s, str) else s
        return self._vector("string", content + b"\0", len(content), 1)

    def _vector(self, kind: str, content: bytes, count: int, alignment: int) -> int:
        """Return the place of `content`, after its number of elements; equal ones have one place."""
        key = (kind, content)
        if key not in self._known:
            self.Prep(max(alignment, 4), len(content))
            end = self.head
            self.head -= 4 + len(content)
            struct.pack_into("<I", self.Bytes, self.head, count)
            self.Bytes[end - len(content) : end] = content
            self._known[key] = len(self.Bytes) - self.head
        return self._known[key]

    def StartObject(self, numfields: int) -> None:  # noqa: N802
        """Begin a table."""
        self.nested = True
        self._kinds, self._values = [], []

    def PrependSlot(self, flags: Any, o: int, x: Any, d: Any) -> None:  # noqa: N802
        """Set a number of the table; a default is left out."""
        if x != d:
            self._kinds.append((o, _CODES[flags]))
            self._values.append(x)

    def PrependUOffsetTRelativeSlot(self, o: int, x: int, d: int) -> None:  # noqa: N802
        """Set a reference of the table; one to nothing is left out."""
        if x != d:
            self._kinds.append((o, _OFFSET))
            self._values.append(x)

    def PrependUOffsetTRelative(self, off: int) -> None:  # noqa: N802
        """Write a reference, in a table as an element of its vector."""
        if not self.nested:
            super().PrependUOffsetTRelative(off)
            return
        self.head -= 4  # StartVector has made room
        struct.pack_into("<I", self.Bytes, self.head, len(self.Bytes) - self.head - off)

    def EndObject(self) -> int:  # noqa: N802
        """Write the table; returns its place."""
        self.nested = False
        layout = _layout(tuple(self._kinds))
        self.Prep(layout.alignment, layout.fields.size)
        self.head -= layout.fields.size
        at = len(self.Bytes) - self.head  # places are counted from the end, which stays where it is
        values = [self._values[n] for n in layout.order]
        for place, distance in layout.pointers:
            values[place] = at - distance - values[place]
        vtable = self._vtable(layout.vtable)
        layout.fields.pack_into(self.Bytes, len(self.Bytes) - at, vtable - at, *values)
        return at

    def _vtable(self, content: bytes) -> int:
        key = ("vtable", content)
        if key not in self._known:
            self.Prep(2, len(content))
            self.head -= len(content)
            self.Bytes[self.head : self.head + len(content)] = content
            self._known[key] = len(self.Bytes) - self.head
        return self._known[key]
