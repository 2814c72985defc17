"""The verdict of a report: the finished file next to the float model, on samples."""

from dataclasses import dataclass

from tfq_converters.brief import brief
from tfq_fine.report.sections import Grid, decibels

WEAK_DB = 15.0  # dB, below which the outputs are a poor likeness
GOOD_DB = 20.0  # dB, from which on outputs are near float's in most models
WEAK_POINTS = 0.5  # percent of decisions that differ, or error in percent of the range: more is worth a warning
WEAK_AGREEMENT, FINE_DB = 0.9, 30.0  # less agreement than that is poor, unless the SQNR is as high as this


@dataclass(frozen=True)
class OutputVerdict:
    """One output of the file."""

    name: str
    sqnr: float  # dB, over all samples; NaN where nothing can be compared
    agreement: float | None = None  # share of the samples with the same highest class; None where there are no classes
    points: float | None = None  # how far it is off (`judging.Apart.points`); None of classes
    tied: int = 0  # samples whose highest class of the file is shared by several


@dataclass(frozen=True)
class Verdict:
    """All outputs of the file."""

    __repr__ = brief

    outputs: tuple[OutputVerdict, ...]
    samples: int
    generated: bool = False  # the samples are made up, since there is no data

    @property
    def on(self) -> str:
        """The samples that the file was run on, in words."""
        plural = "" if self.samples == 1 else "s"
        return (
            f"{self.samples} generated input{plural}"
            if self.generated
            else f"{self.samples} sample{plural} of the data"
        )

    def grid(self) -> Grid:
        """Return a table with one row per output, and with a column of ties where there are any."""
        columns = ["output", ">SQNR dB", ">same top-1", ">points off"]
        rows = [
            [
                row.name,
                decibels(row.sqnr),
                "" if row.agreement is None else f"{row.agreement:.1%}",
                "" if row.points is None else f"{row.points:.2f}",
            ]
            for row in self.outputs
        ]
        if any(row.tied for row in self.outputs):
            columns.append(">tied in the file")
            for row, cells in zip(self.outputs, rows, strict=True):
                cells.append("" if row.agreement is None else str(row.tied))
        return Grid(
            f"The file compared with the float model, on {self.on}", tuple(columns), [tuple(cells) for cells in rows]
        )

    def weak(self) -> tuple[OutputVerdict, ...]:
        """Return the outputs that are far from the float model's; an output with NaN is."""
        return tuple(row for row in self.outputs if is_far(row) or is_off(row))


def is_off(row: OutputVerdict) -> bool:
    """Return whether decisions or values are farther off than a user would like."""
    return row.points is not None and not row.points <= WEAK_POINTS


def is_far(row: OutputVerdict) -> bool:
    """Return whether an output is far from the float model's."""
    if row.agreement is not None and row.agreement < WEAK_AGREEMENT and not row.sqnr >= FINE_DB:
        return True  # what has several columns may be no classes: a likeness of many dB is one
    return not row.sqnr >= WEAK_DB
