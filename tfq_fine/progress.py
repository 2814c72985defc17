"""Progress on a terminal: the stage, how far it is, how fast, and the time left."""

import io
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from tfq_converters.errors import printable

Advance = Callable[[int], None]
NOTEBOOK_WIDTH, REDRAWN_S = 100, 0.3  # characters of a line, and seconds between drawings, in a notebook


@dataclass(frozen=True)
class Step:
    """One of several steps that take unlike times: its name, and its cost in any unit that all of them share."""

    name: str
    cost: float


Begin = Callable[[Step], None]  # is told which step begins; the one before it is done
Steps = Callable[[Sequence[Step]], AbstractContextManager[Begin]]


@contextmanager
def unseen(steps: Sequence[Step]) -> Iterator[Begin]:
    """Show nothing of some steps."""
    yield _nothing


def _nothing(done: object) -> None:
    """Show nothing."""


class _Rate(ProgressColumn):
    """Steps per second, where they take like times."""

    def render(self, task: Task) -> Text:
        shown = task.speed and "pace" not in task.fields
        return Text(f"{task.speed:.1f}/s" if shown else "", style="progress.data.speed")


class _Count(MofNCompleteColumn):
    """How many steps are done, of how many."""

    def render(self, task: Task) -> Text:
        pace: Pace | None = task.fields.get("pace")
        return super().render(task) if pace is None else Text(pace.count, style="progress.download")


class _TimeLeft(TimeRemainingColumn):
    """The time left, by the cost of the steps that are left where these are known."""

    def render(self, task: Task) -> Text:
        pace: Pace | None = task.fields.get("pace")
        if pace is None:
            seconds = task.time_remaining
            said = "" if seconds is None or task.finished else f"{timedelta(seconds=int(seconds))} left"
            return Text(said, style="progress.remaining")
        left = pace.time_left
        said = "" if left is None else f"{timedelta(seconds=round(left))} left"
        return Text(said, style="progress.remaining")


class Pace:
    """How far some steps are, and the time that the others will take.

    Steps that never begin, since their results are known already, tell nothing of the pace.

    Args:
        steps: all steps in their order.
        clock: tells the time in seconds.
    """

    def __init__(self, steps: Sequence[Step], clock: Callable[[], float] = time.monotonic) -> None:
        self._steps, self._clock = list(steps), clock
        self._at = -1  # the step that has begun
        self._since, self._seconds, self._paid = 0.0, 0.0, 0.0  # when it began; time and cost of those before it

    def begin(self, step: Step) -> None:
        """Take note that a step begins, and that those before it are done."""
        now = self._clock()
        if self._at >= 0:
            self._seconds += now - self._since
            self._paid += self._steps[self._at].cost
        self._at, self._since = self._steps.index(step, self._at + 1), now

    @property
    def count(self) -> str:
        """Which step it is, of how many."""
        return f"{max(self._at, 0) + 1}/{len(self._steps)}"

    @property
    def done(self) -> float:
        """The cost of the steps before the one that has begun."""
        return sum(step.cost for step in self._steps[: max(self._at, 0)])

    @property
    def time_left(self) -> float | None:
        """The seconds left; None while no step is done that could tell."""
        if not self._paid:
            return None
        rate, now = self._seconds / self._paid, self._clock()
        own = max(rate * self._steps[self._at].cost - (now - self._since), 0.0)
        return own + rate * sum(step.cost for step in self._steps[self._at + 1 :])


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
    def steps(self, name: str, steps: Sequence[Step]) -> Iterator[Begin]:
        """Show `name`, the step that is being done, how many there are, and the time left by their costs.

        Yields:
            A function to call with each step as it begins; steps whose results are known already are left out.
        """
        if self.bar is None or not steps:
            yield _nothing
            return
        pace, bar = Pace(steps), self.bar
        task = bar.add_task(name, total=sum(step.cost for step in steps), pace=pace)

        def begin(step: Step) -> None:
            pace.begin(step)
            bar.update(task, completed=pace.done, description=f"{name}: {printable(step.name)}", refresh=True)

        try:
            yield begin
        finally:
            bar.remove_task(task)


def columns() -> tuple[ProgressColumn, ...]:
    """Return what is shown of a stage or of steps: name, bar, how many are done, how fast, the time so far and left."""
    return TextColumn("{task.description}"), BarColumn(), _Count(), _Rate(), TimeElapsedColumn(), _TimeLeft()


class NotebookProgress(Progress):
    """Progress in a notebook: text below the cell, drawn anew in place; needs no widgets.

    Args:
        shown: the display below the cell, with a method `update`; a new one when None.
    """

    def __init__(self, shown: Any = None) -> None:
        super().__init__(*columns(), disable=True)  # rich draws nothing itself
        if shown is None:
            from IPython.display import display

            shown = display({"text/plain": ""}, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        self._shown, self._drawn = shown, -math.inf

    def update(self, task_id: TaskID, *args: Any, refresh: bool = False, **fields: Any) -> None:
        """Note how far a task is; draw it if the last drawing is a while ago."""
        super().update(task_id, *args, **fields)
        if refresh or time.monotonic() - self._drawn > REDRAWN_S:
            self.refresh()

    def remove_task(self, task_id: TaskID) -> None:
        """Forget a task."""
        super().remove_task(task_id)
        self.refresh()

    def refresh(self) -> None:
        """Draw all tasks."""
        if hasattr(self, "_shown"):
            page = Console(file=io.StringIO(), width=NOTEBOOK_WIDTH, force_jupyter=False)
            page.print(self.get_renderable())
            self._drawn = time.monotonic()
            self._shown.update({"text/plain": page.file.getvalue().rstrip()}, raw=True)  # type: ignore[attr-defined]


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook. Imports nothing."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


@contextmanager
def stages(shown: bool | None = None) -> Iterator[Stages]:
    """Show stages on stderr if that is a terminal, or below the cell of a notebook, unless `shown` says so or not."""
    if shown is not False and in_notebook():
        yield Stages(NotebookProgress())
        return
    if not (sys.stderr.isatty() if shown is None else shown):
        yield Stages()
        return
    # A descriptor of its own: reading a Keras model catches what is printed to stderr meanwhile.
    with _stream() as console, Progress(*columns(), console=console, transient=True) as bar:
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
