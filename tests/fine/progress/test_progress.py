"""Progress of steps that take unlike times."""

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from tfq_fine import progress
from tfq_fine.progress import Pace, Stages, Step

STEPS = [Step("first", 1.0), Step("second", 2.0), Step("third", 4.0)]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_time_left_follows_costs_and_not_counts():
    clock = Clock()
    pace = Pace(STEPS, clock)
    pace.begin(STEPS[0])
    clock.now += 3.0
    found = [(pace.count, pace.done, pace.time_left)]  # no step is done that could tell the time left
    pace.begin(STEPS[1])
    for waited in (0.0, 1.0, 100.0):  # the last is longer than expected: what follows is still to come
        clock.now += waited
        found.append((pace.count, pace.done, pace.time_left))
    assert found == [("1/3", 0.0, None), ("2/3", 1.0, 18.0), ("2/3", 1.0, 17.0), ("2/3", 1.0, 12.0)]


def test_steps_that_never_begin_tell_nothing():
    clock = Clock()
    pace = Pace(STEPS, clock)
    pace.begin(STEPS[1])  # the first one was known already
    clock.now += 10.0
    pace.begin(STEPS[2])
    assert pace.time_left == pytest.approx(20.0)


def test_a_terminal_shows_the_layer_its_number_and_the_time_left(monkeypatch: pytest.MonkeyPatch):
    clock, shown = Clock(), io.StringIO()
    monkeypatch.setattr(progress, "Pace", lambda steps: Pace(steps, clock))
    console = Console(file=shown, force_terminal=True, width=90)
    with (
        Progress(*progress.columns(), console=console, auto_refresh=False) as bar,
        Stages(bar).steps("fitting weights", STEPS) as begin,
    ):
        begin(STEPS[0])
        clock.now += 30.0
        begin(STEPS[1])
    text = shown.getvalue()
    assert "fitting weights: first" in text and "1/3" in text
    assert "fitting weights: second" in text and "2/3" in text and "0:03:00" in text


def test_nothing_is_shown_without_a_terminal(capfd: pytest.CaptureFixture[str]):
    with progress.stages(False) as shown, shown.steps("fitting weights", STEPS) as begin:
        begin(STEPS[0])
    assert capfd.readouterr() == ("", "")
