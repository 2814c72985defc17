"""The best choice within a size: by the sums over layers, then by running assembled files."""

from collections.abc import Iterator, Mapping
from itertools import combinations, islice

from tfq_converters.errors import TfqError
from tfq_fine.mixed_precision.choice import Limit, best_choice
from tfq_fine.mixed_precision.exploration import Explored
from tfq_fine.mixed_precision.units import Candidate, Unit

MOST_CORRECTIONS = 6  # corrections of the sum of bytes over layers by the size of the assembled file
SLACKS = (0.01, 0.02, 0.04, 0.08, 0.16)  # shares of a size that sums may go beyond it: layers share conversions
MOST_RUNS = 48  # assembled files that are run to refine one
PATIENCE = 16  # runs of these in a row that bring nothing: the refinement ends
FRONTIER = 12  # sizes that the trade of size against error is shown at
LEAST_GAIN_DB = 0.05  # in the outputs, that a swap must bring: less is noise
Changes = tuple[tuple[Unit, Candidate], ...]


def best_within(explored: Explored, most: int) -> dict[Unit, Candidate]:
    """Return the choice of least noise by the sums over layers whose assembled file has at most `most` bytes.

    The sums leave out what layers share; what the assembled file has more or less corrects the next sums.

    Raises:
        TfqError: no file of these candidates is that small; the smallest is named.
    """
    limit, sizes = most - explored.base_bytes, dict[tuple[Candidate, ...], int]()
    choices: list[dict[Unit, Candidate]] = []

    def solved(limit: float) -> int | None:
        """Return the size of the file of the best choice within a limit; None where it is not a new one."""
        choice = best_choice(explored.units, explored.loss, [Limit(explored.bytes, limit)])
        if choice is None or tuple(choice.values()) in sizes:
            return None
        choices.append(choice)
        sizes[tuple(choice.values())] = explored.plans.size(choice)
        return sizes[tuple(choice.values())]

    for _ in range(MOST_CORRECTIONS):
        size = solved(float(limit))
        if size is None:
            break
        limit = most - size + explored.predicted_bytes(choices[-1]) - explored.base_bytes
    for slack in SLACKS:
        solved(limit + slack * most)
    fitting = [choice for choice in choices if sizes[tuple(choice.values())] <= most]
    if fitting:
        return min(fitting, key=explored.predicted_loss)
    smallest = min([explored.smallest(), *uniform_choices(explored)], key=explored.plans.size)
    least = explored.plans.size(smallest)
    if least > most:
        share = 100 * least / explored.float_bytes
        raise TfqError(
            f"max_bytes={most}: no file of these candidates is that small; the smallest has {least} bytes, "
            f"{share:.1f} % of the float file"
        )
    return smallest


def sizes_between(explored: Explored) -> list[dict[Unit, Candidate]]:
    """Return the choices of least noise by the sums, at `FRONTIER` sizes from the smallest to the most exact one."""
    small, exact = explored.smallest(), explored.most_exact()
    low, high = (explored.predicted_bytes(choice) for choice in (small, exact))
    choices = [small]
    for n in range(1, FRONTIER - 1):
        most = low * (high / low) ** (n / (FRONTIER - 1))
        choice = best_choice(explored.units, explored.loss, [Limit(explored.bytes, most - explored.base_bytes)])
        if choice is not None and choice not in choices:
            choices.append(choice)
    return [*choices, exact] if exact not in choices else choices


def best_start(explored: Explored, most: int) -> dict[Unit, Candidate]:
    """Return the best of the choice by the sums and of all uniform ones, by their assembled files.

    Raises:
        TfqError: no file of these candidates is that small; the smallest is named.
    """
    plans, best = explored.plans, best_within(explored, most)
    return max([best, *(one for one in uniform_choices(explored) if plans.size(one) <= most)], key=plans.figure)


def uniform_choices(explored: Explored) -> list[dict[Unit, Candidate]]:
    """Return the choices of one candidate for all layers."""
    return [explored.plans.uniform(c) for c in explored.candidates]


def refined(explored: Explored, choice: dict[Unit, Candidate], most: int) -> dict[Unit, Candidate]:
    """Return the choice after changes of one or two layers, as long as they make the assembled file better.

    Noise of several layers does not quite add up: what the sums rank near each other is told apart by running it.
    """
    best, runs, tried = explored.plans.figure(choice), 0, {tuple(choice.values())}
    improves = True
    while improves and runs < MOST_RUNS:
        improves = False
        new = (other for other in neighbours(explored, choice, most) if tuple(other.values()) not in tried)
        for other in islice(new, min(PATIENCE, MOST_RUNS - runs)):
            tried.add(tuple(other.values()))
            runs += 1
            db = explored.plans.figure(other)
            if db > best + LEAST_GAIN_DB and explored.plans.size(other) <= most:
                choice, best, improves = other, db, True
                break
    return choice


def neighbours(explored: Explored, choice: Mapping[Unit, Candidate], most: int) -> Iterator[dict[Unit, Candidate]]:
    """Yield the choices that differ in one or two layers and fit by the sums, those of least noise first."""
    fitted = explored.plans.fitted
    changes = [
        (unit, c)
        for unit in explored.units
        for c in explored.candidates
        if fitted[c].decisions(unit) != fitted[choice[unit]].decisions(unit)
    ]
    left = most - explored.plans.size(choice)
    ranked: list[tuple[float, int, Changes]] = []
    pairs = [(one, other) for one, other in combinations(changes, 2) if one[0] != other[0]]
    for change in [*((one,) for one in changes), *pairs]:
        more = sum(explored.bytes[unit, c] - explored.bytes[unit, choice[unit]] for unit, c in change)
        if more <= left:
            noise = sum(explored.loss[unit, c] - explored.loss[unit, choice[unit]] for unit, c in change)
            ranked.append((noise, len(ranked), change))
    for _, _, change in sorted(ranked, key=lambda each: each[:2])[: 2 * MOST_RUNS]:
        yield {**choice, **dict(change)}
