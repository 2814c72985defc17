"""Options that the measuring commands share."""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from benchmarks.tables import progress

R = TypeVar("R")  # a row of numbers


def parser(description: str | None, cases: Sequence[str], known: Collection[str]) -> ArgumentParser:
    """Return a parser of --cases, --output and --work."""
    made = ArgumentParser(description=description)
    made.add_argument("--cases", type=names_of(known), default=tuple(cases), help=f"of {', '.join(known)}")
    made.add_argument(
        "--output", metavar="FILE", help="write the numbers there as JSON, and the tables next to it (.md)"
    )
    made.add_argument("--work", metavar="FOLDER", help="keep the float models there, and use those that are there")
    return made


def names_of(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """Reads `a,b` into names that must be known."""

    def read(text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(","))
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return names

    read.__name__ = "names"  # what argparse calls the type in its errors
    return read


def measured(
    arguments: Namespace, measure: Callable[[str, Path], Iterable[R]], said: Callable[[str, R], str]
) -> list[R]:
    """Return the rows of all cases; each is told of as soon as it is there.

    Args:
        arguments: what `parser` read: the cases, and the folder of the float models.
        measure: measures a case, with that folder.
        said: what is told of a row, and of which case it is.
    """
    rows: list[R] = []
    with work_folder(arguments.work) as work:
        for case in arguments.cases:
            for row in measure(case, work):
                progress(said(case, row))
                rows.append(row)
    return rows


@contextmanager
def work_folder(given: str | None) -> Iterator[Path]:
    """Return the folder that the user gave, else one that is deleted at the end."""
    if given is not None:
        yield Path(given)
        return
    with tempfile.TemporaryDirectory(prefix="tfq_fine_bench.") as folder:
        yield Path(folder)
