"""The smallest choice whose file loses at most so much of a metric on labelled samples."""

import math
from collections.abc import Callable

from tfq_converters import flatbuffer
from tfq_converters.realize import realize
from tfq_fine.mixed_precision.choice import Limit, best_choice
from tfq_fine.mixed_precision.exploration import Explored
from tfq_fine.mixed_precision.labelled import Drop, Labelled
from tfq_fine.mixed_precision.units import Candidate, Unit

HALVINGS = 7  # halvings of the range of noise, each with one assembled file
MOST_FILES = 6  # files that are made in full
STEP = 1.6  # the factor of noise between two of them
Made = Callable[[dict[Unit, Candidate]], Drop]  # makes the file of a choice in full, and measures it


def smallest_with_loss(explored: Explored, most: float) -> dict[Unit, Candidate]:
    """Return the choice of fewest bytes whose noise by the sum over layers is at most `most`, or the most exact one."""
    least = {unit: min(explored.bytes[unit, c] for c in explored.candidates) for unit in explored.units}
    shifted = {(unit, c): size - least[unit] for (unit, c), size in explored.bytes.items()}
    choice = best_choice(explored.units, shifted, [Limit(explored.loss, most)])
    return explored.most_exact() if choice is None else choice


def within_drop(explored: Explored, judge: Labelled, limit: float, made: Made) -> list[dict[Unit, Candidate]]:
    """Make files until the smallest one is found that keeps to the limit, and return all choices that were made.

    How much noise the metric stands is first found on assembled files. The files that are made in full then begin
    there: more exact ones until one keeps to the limit (a repair), or smaller ones as long as they do.

    Args:
        explored: the layers and their candidates.
        judge: the samples that decide.
        limit: the largest drop, in units of the metric.
        made: makes and measures a file; called once for every choice.
    """
    exact, small = explored.most_exact(), explored.smallest()
    low = math.log(max(explored.predicted_loss(exact), 1e-9))
    high = math.log(max(explored.predicted_loss(small), 1e-9))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _assembled(explored, judge, smallest_with_loss(explored, math.exp(middle))) <= limit:
            low = middle
        else:
            high = middle
    noise, tried = math.exp(low), list[dict[Unit, Candidate]]()
    direction = 0  # up while files keep to the limit, down while they do not
    while len(tried) < MOST_FILES:
        choice = smallest_with_loss(explored, noise)
        if choice not in tried:
            tried.append(choice)
            turn = 1 if made(choice).value <= limit else -1
            if direction and turn != direction:
                return tried
            direction = turn
            if choice == (small if turn > 0 else exact):
                return tried
        noise *= STEP**direction
        if not explored.predicted_loss(exact) / STEP <= noise <= explored.predicted_loss(small) * STEP:
            noise = explored.predicted_loss(exact if direction < 0 else small)
            if smallest_with_loss(explored, noise) in tried:
                return tried
    if direction < 0:  # the last resort of a repair
        tried.append(exact)
        made(exact)
    return tried


def _assembled(explored: Explored, judge: Labelled, choice: dict[Unit, Candidate]) -> float:
    graph = realize(explored.plans.numbers(choice).quantized).graph
    return judge.dropped(graph, flatbuffer.write(graph))
