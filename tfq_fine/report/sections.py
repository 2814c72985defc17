"""The content of a report before it is rendered: paragraphs, grids and bars as plain values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Paragraph:
    """A line or more of text."""

    text: str


@dataclass(frozen=True)
class Banner:
    """The verdict in a sentence: `tone` is "good", "poor" or "plain", `word` what it comes down to."""

    tone: Literal["good", "poor", "plain"]
    word: str
    text: str


@dataclass(frozen=True)
class Figures:
    """The few numbers that a reader wants first: (what, value, a remark or "")."""

    entries: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        title: its heading.
        columns: headings. One that starts with `>` is of numbers, with `#` of numbers that pages draw as bars too, with
            a backquote of code that pages let readers copy (`column_kind`).
        rows: cells in the order of the columns.
        about: what the numbers mean, for pages; "" where the title says it.
        folded: whether pages show it when asked only.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    about: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Bars:
    """A picture of one bar per name and series; text reports leave it out."""

    title: str
    unit: str
    names: Sequence[str]
    series: Mapping[str, Sequence[float]]  # each as long as `names`


@dataclass(frozen=True)
class Lines:
    """A picture of points joined by lines, one line per series; text reports leave it out.

    Attributes:
        title: its heading.
        axes: what the x axis and the y axis are, with units.
        series: name -> (x, y) of its points; those that are not finite are left out.
        about: what the picture shows.
    """

    title: str
    axes: tuple[str, str]
    series: Mapping[str, Sequence[tuple[float, float]]]
    about: str = ""


@dataclass(frozen=True)
class Curves:
    """A small picture per name: shares over equal bins between two limits, and a marked part of them.

    Attributes:
        title: its heading.
        names: one per picture, in graph order.
        shares: shares of the values in equal bins between the limits.
        limits: the ends of the bins.
        marks: the marked part.
        words: what else is known of each.
        first: the places of those that are shown before the reader asks for more, in this order.
        about: what the pictures show.
    """

    title: str
    names: Sequence[str]
    shares: Sequence[Sequence[float]]
    limits: Sequence[tuple[float, float]]
    marks: Sequence[tuple[float, float]]
    words: Sequence[str]
    first: Sequence[int]
    about: str


Section = Paragraph | Banner | Figures | Grid | Bars | Lines | Curves
KINDS = {">": "number", "#": "bar", "`": "code"}


def column_kind(heading: str) -> tuple[str, str]:
    """Return the heading of a column for readers, and its kind: "number", "bar", "code", or "" for text.

    >>> column_kind(">bytes"), column_kind("layer")
    (('bytes', 'number'), ('layer', ''))
    """
    kind = KINDS.get(heading[:1], "")
    return (heading[1:] if kind else heading), kind


def decibels(value: float | None) -> str:
    """Return `38.2`; `exact` for +inf; `-` when there is no value."""
    if value is None:
        return "-"
    return "exact" if value == math.inf else f"{value:.1f}"


def share(value: float | None) -> str:
    """Return `0.9912`; `-` when there is no value."""
    return "-" if value is None else f"{value:.4f}"


def size(count: int) -> str:
    """Return bytes as `1,234,567`."""
    return f"{count:,}"


def brief_name(name: str, length: int = 60) -> str:
    """Return a tensor name that fits a line: the last of fused names, its beginning cut off.

    >>> brief_name("model/conv/BiasAdd;model/conv/Relu")
    'model/conv/Relu'
    """
    last = name.rstrip(";").rsplit(";", 1)[-1]
    return last if len(last) <= length else "…" + last[-(length - 1) :]


def listed(names: Sequence[str], most: int = 4) -> str:
    """Return `a, b, c, d and 3 more`."""
    shown = ", ".join(brief_name(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
