"""Two reports of one kind side by side: what a change of recipe, data or version did to every layer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group

from tfq_converters.errors import TfqError
from tfq_converters.files import parsed, read_text
from tfq_fine.report.html_page import HtmlPage
from tfq_fine.report.measurements import LayerError
from tfq_fine.report.quantization import QuantizationReport
from tfq_fine.report.sections import Grid, Section, decibels, size
from tfq_fine.report.text import plain_text, rich_group
from tfq_fine.report.verification import Report

KINDS: tuple[type[QuantizationReport] | type[Report], ...] = (QuantizationReport, Report)
WORST = 10  # layers that the text shows: those that lost most


def load_report(path: str) -> QuantizationReport | Report:
    """Return the report in a JSON file that `--report` or `save` wrote, whichever kind it is.

    Raises:
        TfqError: the file cannot be read, or holds no report.
    """
    content = read_text(path)
    plain = parsed(content, path)
    kind = plain.get("kind") if isinstance(plain, dict) else None
    for report in KINDS:
        if kind == report.KIND:
            return report.from_json(content)
    raise TfqError(f'{path}: expected a report with "kind" {" or ".join(repr(r.KIND) for r in KINDS)}, found {kind!r}')


@dataclass(frozen=True)
class SideBySide(HtmlPage):
    """Two reports, and how they are called."""

    first: QuantizationReport | Report
    second: QuantizationReport | Report
    names: tuple[str, str] = ("A", "B")

    def __post_init__(self) -> None:
        if type(self.first) is not type(self.second):
            kinds = " and ".join(type(report).__name__ for report in (self.first, self.second))
            raise TfqError(
                f"two reports of one kind can be compared, found {kinds}: both from `quantize`, or from `verify`"
            )

    def sections(self, all: bool = True) -> list[Section]:
        """Return what differs: the key figures, and the layers, those that lost most first."""
        first, second = (dict(_figures(report)) for report in (self.first, self.second))
        rows = [(name, first.get(name, "-"), second.get(name, "-")) for name in {**first, **second}]
        layers = self._layers()
        title = "Layers, the greatest loss first" + (
            "" if all or len(layers) <= WORST else f" ({WORST} of {len(layers)})"
        )
        columns = (
            "layer",
            "operator",
            f"#{self.names[0]} dB",
            f"#{self.names[1]} dB",
            ">change dB",
            f"{self.names[0]} is",
            f"{self.names[1]} is",
        )
        sections: list[Section] = [Grid("Both files", ("", *self.names), rows)]
        if layers:
            sections.append(Grid(title, columns, layers if all else layers[:WORST], "SQNR of each layer's output."))
        return sections

    def _layers(self) -> list[Sequence[str]]:
        """Return a row for each layer that both hold, by how much the second is worse."""
        sides = [{error.name: error for error in _layers(report)} for report in (self.first, self.second)]
        both = [(sides[0][name], sides[1][name]) for name in sides[0] if name in sides[1]]
        both.sort(key=lambda pair: _change(*pair))
        return [
            (
                a.layer or a.name,
                a.code,
                decibels(a.sqnr_db),
                decibels(b.sqnr_db),
                f"{_change(a, b):+.1f}",
                a.dtype,
                b.dtype,
            )
            for a, b in both
        ]

    def __str__(self) -> str:
        return plain_text(self.sections(all=False))

    def __rich__(self) -> Group:
        return rich_group(self.sections(all=False))

    def _page(self) -> tuple[str, list[Section]]:
        return f"{self.names[0]} and {self.names[1]}", self.sections()


def _figures(report: QuantizationReport | Report) -> list[tuple[str, str]]:
    """Return the key figures of a report by name."""
    figures: list[tuple[str, str]] = []
    if isinstance(report, QuantizationReport):
        figures += [("recipe", report.recipe), ("bytes", size(report.file_bytes))]
        outputs = report.verdict.outputs if report.verdict is not None else ()
        figures += [(f"SQNR of {row.name}, dB", decibels(row.sqnr)) for row in outputs]
        figures += [
            (f"same top-1 of {row.name}", f"{row.agreement:.1%}") for row in outputs if row.agreement is not None
        ]
    else:
        figures.append(("bytes", size(report.quantized_size.file_bytes)))
        for key, task in report.tasks.items():
            name = f"{key}: {task.name}" if key else task.name
            figures += [(name, f"{task.quantized_value:.4f}"), (f"{name}, drop", f"{task.drop:+.4f}")]
        if report.latency is not None:
            figures.append(("latency, ms", f"{report.latency.quantized_ms:.4g}"))
            figures.append(("latency to float", f"{report.latency.ratio:.2f}"))
        figures += [(f"SQNR of {output.name}, dB", decibels(output.sqnr_db)) for output in report.outputs]
    if report.provenance is not None:
        figures += [("samples", report.provenance.data), ("made", report.provenance.made)]
    return figures


def _layers(report: QuantizationReport | Report) -> Sequence[LayerError]:
    if report.layers or isinstance(report, Report):
        return report.layers
    codes = {row.label: row for row in report.rows}
    return [
        LayerError(
            name,
            name,
            codes[name].code if name in codes else "",
            codes[name].activations if name in codes else "",
            sqnr,
            0.0,
        )
        for name, sqnr in report.layer_error
    ]


def _change(a: LayerError, b: LayerError) -> float:
    """Return the gain from `a` to `b` in dB; 0 where both are equal to float, the greatest loss where `b` is lost."""
    if a.sqnr_db == b.sqnr_db:
        return 0.0
    return -math.inf if math.isnan(b.sqnr_db) else math.inf if math.isnan(a.sqnr_db) else b.sqnr_db - a.sqnr_db
