"""Sections as rich renderables, for terminals, and as plain text, for everything else."""

import io
from collections.abc import Iterable

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from tfq_fine.report.sections import Grid, Paragraph, Section, column_kind

WIDTH = 120  # columns of plain text


def rich_group(sections: Iterable[Section]) -> Group:
    """Return `sections` one below the other, without the pictures."""
    parts: list[Table | Text] = []
    for section in sections:
        if isinstance(section, Grid):
            parts += [Text(f"\n{section.title}", style="bold"), _table(section)]
        elif isinstance(section, Paragraph):
            gap = "\n" if parts and isinstance(parts[-1], Table) else ""
            parts.append(Text(gap + section.text))
    return Group(*parts)


def plain_text(sections: Iterable[Section], width: int = WIDTH) -> str:
    """Return the sections without colours, in lines of at most `width` columns."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, force_terminal=False, legacy_windows=False)
    console.print(rich_group(sections))
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip("\n").split("\n"))


def _table(section: Grid) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in section.columns:
        heading, kind = column_kind(column)
        table.add_column(Text(heading), justify="right" if kind in ("number", "bar") else "left", overflow="fold")
    for row in section.rows:
        table.add_row(*(Text(cell) for cell in row))  # `Text`: names may hold square brackets, which are markup
    return table
