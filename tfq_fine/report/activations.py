"""Calibration's observations of every activation, and the range that it got."""

from dataclasses import dataclass

import numpy as np

from tfq_converters.graph import Graph
from tfq_fine.activations import requested_specs
from tfq_fine.calibration import Statistics, moved_from
from tfq_fine.numerics import Histogram
from tfq_fine.planning import Plan
from tfq_fine.report.sections import Curves, Grid, brief_name

BINS = 64
WHOLE = 0.999  # a share of the range that was seen, which is all of it but for rounding
SHOWN = 12  # pictures that are shown first: those that lose most of their range


@dataclass(frozen=True)
class ActivationRow:
    """One activation of an integer operator; tensors that only hold moved values of another have no row."""

    name: str
    observer: str
    seen_low: float
    seen_high: float
    low: float
    high: float
    shares: tuple[
        float, ...
    ] = ()  # shares of the values in `BINS` equal bins from seen_low to seen_high; where counted

    @property
    def kept(self) -> float:
        """The chosen range as a share of what was seen."""
        extent = self.seen_high - self.seen_low
        return 1.0 if extent <= 0 else (min(self.high, self.seen_high) - max(self.low, self.seen_low)) / extent


def activation_rows(graph: Graph, plan: Plan, seen: Statistics, chosen: Statistics) -> tuple[ActivationRow, ...]:
    """Return a row for every activation that the plan holds in integers, in graph order."""
    moved, rows = moved_from(graph), []
    for t, spec in sorted(requested_specs(graph, plan).items()):
        key = (0, t)
        if t in moved or key not in seen.ranges:
            continue
        histogram = chosen.histograms.get(key)
        shares = () if histogram is None else binned(histogram, *seen.ranges[key])
        name = graph.main.tensors[t].name
        rows.append(ActivationRow(name, spec.observer, *seen.ranges[key], *chosen.ranges[key], shares))
    return tuple(rows)


def binned(histogram: Histogram, low: float, high: float) -> tuple[float, ...]:
    """Return shares of the counted values in equal bins from `low` to `high`."""
    if high <= low:
        return ()
    places = (histogram.values.astype(np.float64) - low) * (BINS / (high - low))
    where = np.clip(places, 0, BINS - 1).astype(np.int64)  # the ends may have been rounded outwards
    counts = np.bincount(where, histogram.counts, BINS)
    return tuple((counts / max(histogram.total, 1)).tolist())


def grid(rows: tuple[ActivationRow, ...]) -> Grid:
    """Return all rows as a table."""
    cells = [
        (
            brief_name(r.name, 40),
            r.observer,
            *(f"{v:.4g}" for v in (r.seen_low, r.seen_high, r.low, r.high)),
            f"{r.kept:.0%}",
        )
        for r in rows
    ]
    columns = ("activation", "observer", ">smallest", ">largest", ">from", ">to", ">range kept")
    return Grid("Ranges of activations", columns, cells, folded=True)


def curves(rows: tuple[ActivationRow, ...]) -> list[Curves]:
    """Return the histograms with the chosen ranges; those that were cut most are shown first."""
    counted = [row for row in rows if row.shares]
    if not counted:
        return []
    return [
        Curves(
            "Activations and their ranges",
            [row.name for row in counted],
            [row.shares for row in counted],
            [(row.seen_low, row.seen_high) for row in counted],
            [(row.low, row.high) for row in counted],
            [_words(row) for row in counted],
            sorted((k for k, row in enumerate(counted) if row.kept < WHOLE), key=lambda k: (counted[k].kept, k))[
                :SHOWN
            ],
            "The values that calibration saw in each activation, counts on a logarithmic scale. Shaded: the range that "
            "the codes cover; what lies outside is clipped to its ends. Those that were cut most come first.",
        )
    ]


def _words(row: ActivationRow) -> str:
    """Return the chosen range, what it clips, and why it was chosen."""
    bins = np.linspace(row.seen_low, row.seen_high, len(row.shares) + 1)
    centres = (bins[:-1] + bins[1:]) / 2
    clipped = float(np.sum(np.asarray(row.shares)[(centres < row.low) | (centres > row.high)]))
    said = "no value clipped" if clipped == 0 else f"about {clipped:.2%} of the values clipped"
    return f"{row.low:.4g} to {row.high:.4g} by {row.observer}; {said}"
