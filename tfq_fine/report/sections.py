"""The content of a report before it is rendered: paragraphs, grids and bars as plain values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Paragraph:
    """A line or more of text."""

    text: str


@dataclass(frozen=True)
class Grid:
    """A table. Columns whose heading starts with `>` hold numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Bars:
    """A picture of one bar per name and series; text reports leave it out."""

    title: str
    unit: str
    names: Sequence[str]
    series: Mapping[str, Sequence[float]]  # each as long as `names`


@dataclass(frozen=True)
class Curves:
    """A small picture per name: shares over equal bins between two limits, and a marked part of them."""

    title: str
    names: Sequence[str]
    shares: Sequence[Sequence[float]]
    limits: Sequence[tuple[float, float]]
    marks: Sequence[tuple[float, float]]


Section = Paragraph | Grid | Bars | Curves


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
