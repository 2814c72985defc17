"""One table, printed on the terminal and saved as Markdown next to its numbers in JSON."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

FILE_WIDTH = 200  # characters of a line where the output is no terminal


@dataclass(frozen=True)
class Table:
    """A table of text: the first `labels` columns are words, the others numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    labels: int = 2

    def markdown(self) -> str:
        r"""Return the table as docs/benchmarks.md shows it.

        >>> print(Table("Sizes", ("file", "bytes"), (("a|b", "12"),), labels=1).markdown())
        **Sizes**
        <BLANKLINE>
        | file | bytes |
        |---|---:|
        | a\|b | 12 |
        """
        rule = ["---" if index < self.labels else "---:" for index in range(len(self.columns))]
        escaped = [[cell.replace("|", "\\|") for cell in row] for row in (self.columns, *self.rows)]
        lines = [f"| {' | '.join(row)} |" for row in escaped]
        lines.insert(1, f"|{'|'.join(rule)}|")
        notes = ["", *(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n".join([f"**{self.title}**", "", *lines, *notes])

    def show(self) -> None:
        """Print it."""
        table = RichTable(title=self.title, title_justify="left", box=box.SIMPLE_HEAD)
        for index, column in enumerate(self.columns):
            table.add_column(column, justify="left" if index < self.labels else "right", overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        console = Console()
        if not console.is_terminal:
            console.width = FILE_WIDTH
        console.print(table)
        for note in self.notes:
            console.print(note, soft_wrap=True, highlight=False)


def progress(text: str) -> None:
    """Print a line of progress to stderr, apart from the tables."""
    print(text, file=sys.stderr, flush=True)


def save(path: str | Path, tables: Sequence[Table], numbers: Mapping[str, Any]) -> None:
    """Write the numbers and the environment to `path` as JSON, and the tables to PATH.md."""
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({"environment": environment(), **numbers}, indent=1) + "\n")
    place.with_suffix(".md").write_text("\n\n".join(table.markdown() for table in tables) + "\n")


def present(made: Table, rows: Sequence[Any], output: str | Path | None) -> None:
    """Print the table of `rows`, which are dataclasses, and save both where there is an `output`."""
    made.show()
    if output:
        save(output, [made], {"rows": [asdict(row) for row in rows]})


def environment() -> dict[str, Any]:
    """Return the versions and the machine that the numbers depend on."""
    packages = ("ai-edge-litert", "tensorflow", "keras", "litert-quantizer", "numpy")
    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
        **{name: version(name) for name in packages},
    }
