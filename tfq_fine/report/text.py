"""Sections as rich renderables, for terminals, and as plain text, for everything else."""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tfq_converters.errors import printable
from tfq_fine.report.sections import Grid, Paragraph, Section, column_kind

WIDTH = 120  # columns of plain text
GAP = 3  # columns between two of a table


def rich_group(sections: Iterable[Section]) -> Group:
    """Return `sections` one below the other, without the pictures."""
    parts: list[FittedTable | Text] = []
    for section in sections:
        if isinstance(section, Grid):
            section = replace(section, rows=[[printable(cell) for cell in row] for row in section.rows])
            parts += [Text(printable(f"\n{section.title}"), style="bold"), FittedTable(section)]
        elif isinstance(section, Paragraph):
            gap = "\n" if parts and isinstance(parts[-1], FittedTable) else ""
            parts.append(Text(gap + printable(section.text)))
    return Group(*parts)


def plain_text(sections: Iterable[Section], width: int = WIDTH) -> str:
    """Return the sections without colours, in lines of at most `width` columns."""
    stream = io.StringIO()
    # In a notebook rich would show the text below the cell and write nothing, unless it is told that this is none.
    plain = {"color_system": None, "force_terminal": False, "force_jupyter": False, "legacy_windows": False}
    console = Console(file=stream, width=width, **plain)  # type: ignore[arg-type]
    console.print(rich_group(sections))
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip("\n").split("\n"))


class SectionsText:
    """Sections that print as tables that fit, with nothing else to them.

    Args:
        sections: what is printed.
    """

    def __init__(self, sections: Iterable[Section]) -> None:
        self._sections = list(sections)

    def __str__(self) -> str:
        return plain_text(self._sections)

    def __rich__(self) -> Group:
        return rich_group(self._sections)


class FittedTable:
    """A grid as a table where the console is wide enough for whole words and numbers, else as a list.

    Args:
        grid: the grid.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        least = [self._least(k) for k in range(len(self._grid.columns))]
        if sum(least) + GAP * len(least) <= options.max_width:  # rich reckons with space at both edges, too
            yield self._table(least)
        else:
            yield from self._list()

    def _least(self, k: int) -> int:
        """Return the columns of text that column `k` takes at least: a whole number, or its longest word."""
        heading, kind = column_kind(self._grid.columns[k])
        cells = [heading, *(row[k] for row in self._grid.rows)]
        parts = cells[1:] if kind in ("number", "bar") else [word for cell in cells[1:] for word in cell.split()]
        return max((cell_len(part) for part in (*heading.split(), *parts)), default=0)

    def _table(self, least: Sequence[int]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for column, width in zip(self._grid.columns, least, strict=True):
            heading, kind = column_kind(column)
            right = kind in ("number", "bar")
            table.add_column(Text(heading), justify="right" if right else "left", min_width=width, overflow="fold")
        for row in self._grid.rows:
            table.add_row(*(Text(cell) for cell in row))  # `Text`: names may hold square brackets, which are markup
        return table

    def _list(self) -> Iterator[Text | Padding]:
        """Yield each row as its first cell, and below it the others with their headings."""
        headings = [column_kind(column)[0] for column in self._grid.columns]
        for row in self._grid.rows:
            first, *others = zip(headings, row, strict=True)
            yield Text(first[1] or first[0], overflow="fold")
            said = [f"{heading}: {cell}" if heading else cell for heading, cell in others if cell]
            if said:
                yield Padding(Text("; ".join(said), overflow="fold"), (0, 0, 0, 2))
