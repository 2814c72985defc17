"""What goes to the terminal: reports on stdout; on stderr, if it is a terminal, what is being done."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from tfq_fine.report import QuantizationReport, Report


def show(report: Report | QuantizationReport) -> None:
    """Print a report: in colours on a terminal, as plain text elsewhere."""
    if sys.stdout.isatty():
        Console().print(report)
    else:
        print(report)


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
