"""Terminal output: reports on stdout; progress on stderr, if that is a terminal."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from logging import ERROR, getLogger
from typing import TypeVar

from rich.console import Console, RichCast
from rich.progress import Progress

from tfq_converters.errors import printable
from tfq_converters.files import Place
from tfq_fine.report import QuantizationReport, Report

ReportType = TypeVar("ReportType", Report, QuantizationReport)


def show(report: RichCast) -> None:
    """Print what has a form for terminals, such as a report: in colours on a terminal, as plain text elsewhere."""
    if sys.stdout.isatty():
        Console().print(report)
    else:
        print(report)


def by_command(report: ReportType, arguments: argparse.Namespace) -> ReportType:
    """Return a report that names the command line that it came from."""
    if report.provenance is None:
        return report
    return replace(report, provenance=report.provenance.by_command(arguments.command_line))


def save_pages(report: Report | QuantizationReport, targets: Mapping[str, Place]) -> None:
    """Write the forms of a report that were asked for.

    Raises:
        TfqError: a place cannot be written, or layers were not measured.
    """
    writers = {
        "report": report.save,
        "html": report.save_html,
        "csv": report.save_csv,
        "node-data": report.save_node_data,
    }
    for option, write in writers.items():
        if option in targets:
            write(targets[option])


def written(targets: Mapping[str, Place], following: str = "") -> None:
    """Say on stdout which files were written, how large they are, and what to do next; nothing of what went to stdout.

    Args:
        targets: option -> path, or a descriptor.
        following: the command line that a user would want next; "" for none.
    """
    lines = [f"wrote {path} ({os.stat(path).st_size:,} bytes)" for path in targets.values() if isinstance(path, str)]
    if lines:
        print("\n" + "\n".join([*lines, *([f"next: {following}"] if following else [])]))


@contextmanager
def unlogged() -> Iterator[None]:
    """Log no warnings: the report, which is printed, has them."""
    logger = getLogger("tfq_fine")
    before = logger.level
    logger.setLevel(ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """Say on stderr what is being done, for as long as it lasts; nothing is shown unless that is a terminal.

    Yields:
        A function that replaces the text.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    # A descriptor of its own: reading a Keras model catches what is printed to stderr meanwhile.
    with os.fdopen(os.dup(sys.stderr.fileno()), "w") as stream, Console(file=stream).status(text) as status:
        yield status.update


@contextmanager
def counted(total: int, text: str) -> Iterator[Callable[[str], None]]:
    """Show on stderr, if that is a terminal, how many of `total` steps are done.

    Yields:
        A function to call after each step, with what it was.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=total)
        yield lambda what: bar.update(task, advance=1, description=f"{text} {printable(what)}")
