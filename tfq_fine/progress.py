"""Progress on a terminal: the stage, how far it is, how fast, and the time left."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

Advance = Callable[[int], None]


def _nothing(count: int) -> None:
    """Show nothing."""


class _Rate(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")


@dataclass(frozen=True)
class Stages:
    """The stages of one job; nothing is shown when there is no `bar`."""

    bar: Progress | None = None

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """Show `name` for as long as the block lasts.

        Yields:
            A function that takes how many of `total` steps were just done; `total` is None where nobody knows.
        """
        if self.bar is None:
            yield _nothing
            return
        task = self.bar.add_task(name, total=total)
        bar = self.bar
        try:
            yield lambda count: bar.update(task, advance=count)
            bar.refresh()  # however quickly it was done
        finally:
            bar.remove_task(task)


@contextmanager
def stages(shown: bool | None = None) -> Iterator[Stages]:
    """Show stages on stderr if that is a terminal, unless `shown` says so or not."""
    if not (sys.stderr.isatty() if shown is None else shown):
        yield Stages()
        return
    # A descriptor of its own: reading a Keras model catches what is printed to stderr meanwhile.
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with _stream() as console, Progress(*columns, console=console, transient=True) as bar:
        yield Stages(bar)


@contextmanager
def _stream() -> Iterator[Console]:
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):  # a notebook's
        yield Console(stderr=True)
        return
    with os.fdopen(descriptor, "w") as stream:
        yield Console(file=stream)
