"""Numbers and tables for people: rich renderables, and the same as plain text."""

import io
import math
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

WIDTH = 110  # columns of plain text


def plain_text(parts: Iterable[RenderableType], width: int = WIDTH) -> str:
    """`parts` one below the other, without colours, trailing spaces or wrapped lines beyond `width`."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, force_terminal=False, legacy_windows=False)
    console.print(Group(*parts))
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip("\n").split("\n"))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table. Columns whose heading starts with `>` are right-aligned."""
    result = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        right = column.startswith(">")
        result.add_column(column.removeprefix(">"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        result.add_row(*(Text(cell) for cell in row))  # `Text`: names may hold square brackets, which are markup
    return result


def line(text: str) -> Text:
    """One line or paragraph."""
    return Text(text)


def decibels(value: float | None) -> str:
    """`38.2`; `exact` for +inf; `-` when there is no value."""
    if value is None:
        return "-"
    return "exact" if value == math.inf else f"{value:.1f}"


def number(value: float | None, digits: int = 4) -> str:
    """`0.9912`; `-` when there is no value."""
    return "-" if value is None else f"{value:.{digits}f}"


def short(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}"


def size(count: int) -> str:
    """`1,234,567`: bytes."""
    return f"{count:,}"


def brief_name(name: str, length: int = 60) -> str:
    """A tensor name that fits a line: the last of fused names, its beginning cut off."""
    last = name.rstrip(";").rsplit(";", 1)[-1]
    return last if len(last) <= length else "…" + last[-(length - 1) :]


def listed(names: Sequence[str], most: int = 4) -> str:
    """`a, b, c, d and 3 more`."""
    shown = ", ".join(brief_name(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
