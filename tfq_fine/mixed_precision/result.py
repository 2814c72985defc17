"""The result of a search: the file, the recipe that makes it, and the files that were made and run on the way."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tfq_converters.brief import brief, first_lines
from tfq_converters.files import Place, write_file
from tfq_fine.api import Result
from tfq_fine.mixed_precision.labelled import Drop
from tfq_fine.report import (
    GOOD_DB,
    WEAK_DB,
    Banner,
    Figures,
    Grid,
    HtmlPage,
    Lines,
    Section,
    decibels,
    plain_text,
    size,
)
from tfq_fine.request import Recipe


@dataclass(frozen=True)
class Point:
    """One file that was made and run."""

    bytes: int
    sqnr_db: float  # the mean over unlabelled samples that nothing was fitted to
    drop: Drop | None  # in the metric, where there is one
    recipe: Recipe = field(repr=False)
    is_whole: bool  # made by `quantize`; else put together from codes that were fitted to the float model's inputs


@dataclass(frozen=True)
class Frontier(HtmlPage):
    """Error against size: files that were made and run, by size."""

    __repr__ = brief

    points: tuple[Point, ...]
    float_bytes: int

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    def sections(self) -> list[Section]:
        """Return the points as a table and a picture."""
        with_drop = any(point.drop is not None for point in self.points)
        rows = [
            (
                size(point.bytes),
                f"{100 * point.bytes / self.float_bytes:.1f}",
                decibels(point.sqnr_db),
                *(["" if point.drop is None else f"{point.drop.value:.4f}"] if with_drop else []),
                "quantize" if point.is_whole else "put together",
            )
            for point in self.points
        ]
        columns = (">bytes", ">% of float", ">SQNR of the outputs, dB", *([">drop"] if with_drop else []), "made by")
        by_size = sorted(self.points, key=lambda point: point.bytes)
        axes = ("size, % of the float file", "SQNR of the outputs, dB")
        series = {
            made: [(100 * p.bytes / self.float_bytes, p.sqnr_db) for p in by_size if p.is_whole == is_whole]
            for made, is_whole in (("put together from fitted layers", False), ("made by quantize", True))
        }
        about = (
            "Every point is a file that was made and run. Smaller files are to the left, those nearer to float above."
        )
        shown: list[Section] = [Lines("Error against size", axes, series, about), Grid("The files", columns, rows)]
        dropped = [(100 * p.bytes / self.float_bytes, p.drop.value) for p in by_size if p.drop is not None]
        if dropped:
            shown.insert(1, Lines("Drop of the metric against size", (axes[0], "drop"), {"drop": dropped}))
        return shown

    def __str__(self) -> str:
        return plain_text(self.sections())

    def save(self, place: Place) -> None:
        """Write the table and the picture as an HTML page.

        Raises:
            TfqError: the place cannot be written, or an extra is not installed.
        """
        self.save_html(place)

    def _page(self) -> tuple[str, list[Section]]:
        return "Error against size", self.sections()


@dataclass(frozen=True)
class LayerChoice:
    """The choice for one layer, and what each candidate would cost and lose there alone."""

    __repr__ = brief

    layer: str
    chosen: str
    bytes: Mapping[str, int]  # candidate -> bytes more than the smallest one takes
    loss: Mapping[str, float]  # candidate -> what is lost in the outputs with only this layer quantized


@dataclass(frozen=True)
class SearchResult(HtmlPage):
    """The best file that was found.

    Attributes:
        result: what `quantize` gave for the recipe.
        point: the file's size and errors.
        layers: what each layer got.
        frontier: all files that were made, and more at other sizes that were put together and run.
        float_bytes: the size of the float file.
        predicted_bytes: the size by the sum over layers.
        latency: the time of a run as a multiple of float's, where that was the budget.
        predicted_latency: the same by the sum over layers.
        problem: why the budget is not met; "" where it is.
    """

    result: Result
    point: Point
    layers: tuple[LayerChoice, ...]
    frontier: Frontier
    float_bytes: int
    predicted_bytes: int
    problem: str = ""
    latency: float | None = None
    predicted_latency: float | None = None

    def __repr__(self) -> str:
        return first_lines(str(self))

    def layer_rows(self) -> list[dict[str, Any]]:
        """Return the layers as plain dicts: `pandas.DataFrame(result.layer_rows())`."""
        return [
            {"layer": row.layer, "chosen": row.chosen, "bytes": row.bytes[row.chosen], "loss": row.loss[row.chosen]}
            for row in self.layers
        ]

    @property
    def content(self) -> bytes:
        """The bytes of the file."""
        return self.result.content

    @property
    def recipe(self) -> Recipe:
        """The recipe of the file, for `prefer="size"`; `quantize` makes the same file where `point.is_whole`."""
        return self.point.recipe

    def to_json(self) -> str:
        """Return as JSON text: sizes and times, as they are and as the sums said, errors, layers, other files."""

        def figures(point: Point) -> dict[str, Any]:
            drop = None if point.drop is None else asdict(point.drop)
            return {"bytes": point.bytes, "sqnr_db": point.sqnr_db, "drop": drop, "is_whole": point.is_whole}

        content = {
            **figures(self.point),
            "float_bytes": self.float_bytes,
            "predicted_bytes": self.predicted_bytes,
            "latency": self.latency,
            "predicted_latency": self.predicted_latency,
            "problem": self.problem,
            "layers": [asdict(row) for row in self.layers],
            "frontier": [figures(point) for point in self.frontier],
        }
        return json.dumps(content, indent=1)

    def sections(self) -> list[Section]:
        """Return what the page shows: whether the budget is met, what each layer got, and the frontier."""
        met = Banner(
            "good" if self.point.sqnr_db >= GOOD_DB else "plain" if self.point.sqnr_db >= WEAK_DB else "poor",
            "Within the budget.",
            f"{self.point.bytes:,} bytes, {decibels(self.point.sqnr_db)} dB at the outputs"
            + (
                "." if self.point.sqnr_db >= GOOD_DB else ": measure the task's metric with `verify` before you use it."
            ),
        )
        entries = [
            (
                "Size",
                f"{self.point.bytes:,} bytes",
                f"{100 * self.point.bytes / self.float_bytes:.1f} % of float's {self.float_bytes:,}",
            ),
            ("SQNR of the outputs", f"{decibels(self.point.sqnr_db)} dB", "on samples that nothing was fitted to"),
        ]
        if self.point.drop is not None:
            drop = self.point.drop
            entries.append(
                (
                    "Metric",
                    f"{drop.metric:.4g}",
                    f"worse by {drop.value:.4g}; 95 % between {drop.low:.4g} and {drop.high:.4g}",
                )
            )
        if self.latency is not None:
            entries.append(("Time of a run", f"{self.latency:.2f} of float's", "measured on this machine"))
        rows = [
            (
                row.layer,
                row.chosen,
                f"{row.loss[row.chosen]:.3g}" if row.chosen in row.loss else "",
                size(row.bytes.get(row.chosen, 0)),
            )
            for row in self.layers
        ]
        about = "The loss in the outputs with only this layer quantized; bytes more than the smallest candidate takes."
        banner = Banner("poor", "The budget is not met.", self.problem) if self.problem else met
        layers = Grid("What each layer got", ("layer", "candidate", "#loss alone", ">bytes more"), rows, about)
        origin = self.result.report.provenance
        return [
            banner,
            Figures(entries),
            layers,
            *self.frontier.sections(),
            *([] if origin is None else [origin.grid()]),
        ]

    def _page(self) -> tuple[str, list[Section]]:
        return "Search", self.sections()

    def save(self, place: Place) -> None:
        """Write the file to a path or open descriptor.

        Raises:
            TfqError: the place cannot be written.
        """
        self.result.save(place)

    def save_recipe(self, place: Place) -> None:
        """Write the recipe as JSON, which `quantize` and `tfq-fine quantize --recipe` take.

        Raises:
            TfqError: the place cannot be written.
        """
        write_file(place, [self.recipe.to_json().encode() + b"\n"])

    def __str__(self) -> str:
        share = 100 * self.point.bytes / self.float_bytes
        lines = [
            f"{self.point.bytes} bytes, {share:.1f} % of the float file; outputs {self.point.sqnr_db:.1f} dB",
            f"the sum over layers said {self.predicted_bytes} bytes ({self.point.bytes - self.predicted_bytes:+d})",
        ]
        if self.point.drop is not None:
            lines.append(f"metric {self.point.drop}")
        if self.latency is not None:
            lines.append(f"a run takes {self.latency:.2f} of float's time")
        if self.latency is not None and self.predicted_latency is not None:
            difference = self.latency - self.predicted_latency
            lines.append(f"the sum over layers said {self.predicted_latency:.2f} ({difference:+.2f})")
        if self.problem:
            lines.append(self.problem)
        width = max((len(row.layer) for row in self.layers), default=0)
        return "\n".join((*lines, *(f"  {row.layer:<{width}}  {row.chosen}" for row in self.layers)))
