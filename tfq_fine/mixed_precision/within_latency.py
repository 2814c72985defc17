"""The choice of least noise within a time: by the sum over layers, corrected by the times of whole files."""

from tfq_converters.errors import TfqError
from tfq_fine.mixed_precision.choice import Limit, Table, best_choice
from tfq_fine.mixed_precision.exploration import Explored
from tfq_fine.mixed_precision.latency import file_ratio
from tfq_fine.mixed_precision.units import Candidate, Unit

MOST_FILES = 6  # files that are put together and timed
CLOSE = 0.97  # share of the limit, from which on a file is not made slower for less noise


def ratio_of(explored: Explored, choice: dict[Unit, Candidate]) -> float:
    """Return the time of the file of a choice, put together, as a multiple of the float model's."""
    plans = explored.plans
    return file_ratio(plans.graph, plans.trial.samples[0], plans.numbers(choice).quantized)


def best_within_time(explored: Explored, times: Table, most: float) -> dict[Unit, Candidate]:
    """Return the choice of least noise whose file takes at most `most` times as long as float.

    Args:
        explored: the layers and their candidates.
        times: what a candidate takes longer than float, as a share of the whole float model's time.
        most: the limit.

    Raises:
        TfqError: no file of these candidates is that fast; the fastest is named.
    """
    best: dict[Unit, Candidate] | None = None
    limit, fastest = most - 1, float("inf")
    tried: list[dict[Unit, Candidate]] = []
    quickest = {unit: min(explored.candidates, key=lambda c: times[unit, c]) for unit in explored.units}
    for _ in range(MOST_FILES):
        choice = best_choice(explored.units, explored.loss, [Limit(times, limit)]) or quickest
        if choice in tried:
            break
        tried.append(choice)
        ratio = ratio_of(explored, choice)
        fastest = min(fastest, ratio)
        if ratio <= most and (best is None or explored.predicted_loss(choice) < explored.predicted_loss(best)):
            best = choice
        if CLOSE * most <= ratio <= most:
            break
        limit += most - ratio
    if best is not None:
        return best
    if quickest not in tried:
        fastest = min(fastest, ratio_of(explored, quickest))
        if fastest <= most:
            return quickest
    raise TfqError(
        f"max_latency={most:g}: no file of these candidates is that fast here; the fastest takes {fastest:.2f} of "
        "float's time"
    )
