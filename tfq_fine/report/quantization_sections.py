"""The sections of the report of a quantization, as a table: each makes its paragraphs, grids and pictures, or none."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tfq_converters.check import nan_as_worst
from tfq_fine.numerics import share_interval
from tfq_fine.report import activations
from tfq_fine.report.layers import SQNR_EXPLAINED, layer_sections
from tfq_fine.report.sections import Banner, Bars, Figures, Grid, Paragraph, Section, brief_name, decibels, listed, size
from tfq_fine.report.verdict import GOOD_DB

if TYPE_CHECKING:
    from tfq_fine.report.quantization import OpRow, QuantizationReport


@dataclass(frozen=True)
class ReportSection:
    """One row of `SECTIONS`.

    Attributes:
        make: what it shows of a report; nothing where there is nothing to say.
        place: "summary" is always shown, "heading" and "text" before and after it as text, "top" and "pictures" on the
            HTML page, "listings" there and where all is asked for.
    """

    make: "Callable[[QuantizationReport], Iterable[Section]]"
    place: Literal["heading", "top", "summary", "text", "pictures", "listings"] = "summary"


def heading(report: "QuantizationReport") -> list[Section]:
    """Return the recipe, and the bytes before and after."""
    before, after = report.float_bytes, report.file_bytes
    ratio = f" ({after / before:.2f})" if before else ""
    return [Paragraph(f"Recipe {report.recipe}: {size(before)} bytes -> {size(after)} bytes{ratio}")]


def kinds(report: "QuantizationReport") -> list[Section]:
    """Return how many operators of each kind got what."""
    groups = _grouped(report.rows, lambda row: (row.code, row.mode, row.weights, row.form, row.activations))
    rows = [
        (*key, str(len(group)), size(sum(r.bytes_before for r in group)), size(sum(r.bytes_after for r in group)))
        for key, group in groups.items()
    ]
    columns = ("operator", "mode", "weights", "form", "activations", ">ops", ">constant bytes", ">after")
    return [Grid("Operators", columns, rows)]


def reasons(report: "QuantizationReport") -> list[Section]:
    """Return why operators got less than was asked."""
    groups = _grouped((row for row in report.rows if row.reason), lambda row: (row.mode, row.reason))
    rows = [(*key, str(len(group)), listed([row.label for row in group])) for key, group in groups.items()]
    return [Grid("Left in float, or less than asked", ("mode", "reason", ">ops", "where"), rows)] if rows else []


def transforms(report: "QuantizationReport") -> list[Section]:
    """Return what each requested transform brought."""
    rows = []
    for row in report.transforms:
        sides = ["" if side is None else decibels(side) for side in (row.before, row.after)]
        rows.append((row.name, "on" if row.applied else "off", *sides, str(row.samples or ""), row.text))
    columns = ("transform", "is", ">SQNR dB without", ">with", ">samples", "where, or why not")
    return [Grid("Transforms", columns, rows)] if rows else []


def worst_layers(report: "QuantizationReport") -> list[Section]:
    """Return the layers that lose most."""
    rows = [(brief_name(name), decibels(sqnr)) for name, sqnr in report.worst_layers()]
    return [Grid(f"Worst layers{_on(report)}", ("layer", ">SQNR dB"), rows)] if rows else []


def verdict(report: "QuantizationReport") -> list[Section]:
    """Return how far the outputs are from the float model's."""
    return [] if report.verdict is None else [report.verdict.grid()]


def types(report: "QuantizationReport") -> list[Section]:
    """Return a picture of the bytes of constants before and after."""
    groups = _grouped((row for row in report.rows if row.bytes_before), lambda row: row.weights or "float32")
    if not groups:
        return []
    before = [sum(row.bytes_before for row in rows) for rows in groups.values()]
    after = [sum(row.bytes_after for row in rows) for rows in groups.values()]
    series = {"float file": before, "quantized file": after}
    return [Bars("Bytes of constants, by type", "bytes", list(groups), series)]


def operators(report: "QuantizationReport") -> list[Section]:
    """Return one line for each operator."""
    rows = [
        (
            brief_name(row.label, 40),
            row.code,
            row.mode,
            row.weights,
            row.algorithm,
            row.form,
            row.activations,
            decibels(row.sqnr_weights),
            size(row.bytes_after),
            row.reason,
        )
        for row in report.rows
    ]
    columns = (
        "layer",
        "operator",
        "mode",
        "weights",
        "algorithm",
        "form",
        "activations",
        ">weight SQNR dB",
        ">bytes",
        "reason",
    )
    return [Grid("All operators", columns, rows, folded=True)]


def judgement(report: "QuantizationReport") -> list[Section]:
    """Return whether the file is good enough, and what to look at."""
    verdict = report.verdict
    if verdict is None:
        return [
            Banner(
                "plain", "Not judged.", "The file as a whole could not be run and compared with the float model here."
            )
        ]
    figures = "; ".join(
        f"{brief_name(row.name, 40)}: {decibels(row.sqnr)} dB"
        + ("" if row.agreement is None else f", {row.agreement:.1%} of the samples have the same top-1")
        for row in verdict.outputs
    )
    said = f"Compared with the float model on {verdict.on}: {figures}."
    poor, others = report.poor_outputs(), [w for w in report.warnings if w not in report.poor_outputs()]
    banner = Banner("poor", "Look closer.", poor[0]) if poor else Banner("good", "Close to the float model.", said)
    if not poor and any(row.sqnr < GOOD_DB for row in verdict.outputs):
        banner = Banner("plain", "Not far from the float model.", f"{said} Measure the task's metric with `verify`.")
    if verdict.generated and not poor:
        banner = Banner("plain", "Measured on generated inputs.", said)
    return [banner, *(Banner("poor", "Warning.", warning) for warning in others)]


def figures(report: "QuantizationReport") -> list[Section]:
    """Return the numbers that a reader wants first."""
    before, after = report.float_bytes, report.file_bytes
    entries = [("Size", f"{size(after)} bytes", f"{after / before:.1%} of float's {size(before)}" if before else "")]
    if report.verdict is not None and report.verdict.outputs:
        worst = min(report.verdict.outputs, key=lambda row: nan_as_worst(row.sqnr))
        entries.append(("SQNR of the outputs", f"{decibels(worst.sqnr)} dB", f"on {report.verdict.on}"))
        agreed = [row.agreement for row in report.verdict.outputs if row.agreement is not None]
        if agreed:
            low, high = share_interval(min(agreed), report.verdict.samples)
            entries.append(("Same top-1 as float", f"{min(agreed):.1%}", f"95 % between {low:.1%} and {high:.1%}"))
    weighted = [row for row in report.rows if row.weights]
    less = [row for row in report.rows if row.reason]
    entries.append(("Operators with weights", str(len(weighted)), f"{len(less)} operators got less than was asked"))
    entries.append(("Recipe", report.recipe, ""))
    return [Figures(entries)]


def layers(report: "QuantizationReport") -> list[Section]:
    """Return the error of every layer, where it comes from, and rules to try."""
    weights = {row.layer: row.weights for row in report.rows if row.weights}
    if report.layers:
        return layer_sections(report.layers, weights, _on(report))
    rows = [(brief_name(name), decibels(sqnr)) for name, sqnr in report.layer_error]
    about = "Quantize with layers=True (--html does) to tell each layer's own error from what it inherits."
    return (
        [Grid(f"Layers, in graph order{_on(report)}", ("layer", "#SQNR dB"), rows, about), Paragraph(SQNR_EXPLAINED)]
        if rows
        else []
    )


def origin(report: "QuantizationReport") -> list[Section]:
    """Return where the report comes from."""
    return [] if report.provenance is None else [report.provenance.grid()]


SECTIONS: dict[str, ReportSection] = {
    "heading": ReportSection(heading, "heading"),
    "judgement": ReportSection(judgement, "top"),
    "figures": ReportSection(figures, "top"),
    "layers": ReportSection(layers, "top"),
    "kinds": ReportSection(kinds),
    "reasons": ReportSection(reasons),
    "transforms": ReportSection(transforms),
    "worst_layers": ReportSection(worst_layers, "text"),
    "notes": ReportSection(lambda report: [Paragraph(f"Note: {note}") for note in report.notes]),
    "verdict": ReportSection(verdict, "text"),
    "warnings": ReportSection(lambda report: [Paragraph(f"Warning: {warning}") for warning in report.warnings], "text"),
    "ranges": ReportSection(lambda report: activations.curves(report.activations), "pictures"),
    "types": ReportSection(types, "pictures"),
    "operators": ReportSection(operators, "listings"),
    "activations": ReportSection(
        lambda report: [activations.grid(report.activations)] if report.activations else [], "listings"
    ),
    "origin": ReportSection(origin, "listings"),
}


def _on(report: "QuantizationReport") -> str:
    return " (on generated inputs)" if report.generated else ""


def _grouped(rows: "Iterable[OpRow]", key: "Callable[[OpRow], Any]") -> "dict[Any, list[OpRow]]":
    """Return rows by key, in the order of their first appearance."""
    groups: dict[Any, list[OpRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups
