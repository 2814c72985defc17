"""What quantization did to every operator."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType

from tfq_converters.errors import TfqError
from tfq_converters.flatbuffer import save_pieces
from tfq_converters.quantized import Mode
from tfq_fine.report import plain, tables

KIND = "tfq_fine.quantization_report"
WORST = 5  # how many of the worst layers are shown


@dataclass(frozen=True)
class OpRow:
    """One operator of the float graph, in execution order."""

    name: str  # of its output tensor
    layer: str  # the Keras layer it came from, "" when unknown
    code: str  # the schema's name, such as CONV_2D
    mode: Mode
    weights: str = ""  # such as "int8 per-channel"; "" without weights
    activations: str = ""  # such as "int8"; "" when they are float
    reason: str = ""  # why it stayed float, or got less than asked
    sqnr_weights: float | None = None  # dB
    bytes_before: int = 0  # of its constants
    bytes_after: int = 0

    @property
    def label(self) -> str:
        """How the operator is called: its layer when known, else its output tensor."""
        return self.layer or self.name


@dataclass(frozen=True)
class QuantizationReport:
    """What was quantized, what stayed float and why, what it cost."""

    rows: tuple[OpRow, ...]
    recipe: str
    file_bytes: int
    float_bytes: int
    notes: tuple[str, ...] = ()
    layer_error: tuple[tuple[str, float], ...] = ()  # (tensor or layer, SQNR in dB), in graph order; empty: not measured

    def __str__(self) -> str:
        return self.table()

    def __rich__(self) -> RenderableType:
        return Group(*self._summary())

    def table(self, all: bool = False) -> str:
        """Plain text: the summary, and with `all` one line per operator."""
        return tables.plain_text([*self._summary(), *([self._listing()] if all else [])])

    def left_float(self) -> tuple[OpRow, ...]:
        """The operators that compute in float although something else was asked: those with a reason."""
        return tuple(row for row in self.rows if row.mode == "float" and row.reason)

    def worst_layers(self, count: int = WORST) -> tuple[tuple[str, float], ...]:
        """The layers with the lowest SQNR, lowest first; NaN counts as lowest."""
        return tuple(sorted(self.layer_error, key=lambda pair: (pair[1] == pair[1], pair[1]))[:count])

    def to_json(self) -> str:
        """JSON text; `from_json` gives the same value back."""
        return plain.dumps(self, KIND)

    @staticmethod
    def from_json(text: str) -> "QuantizationReport":
        """The inverse of `to_json`.

        Raises:
            TfqError: the text is not such a report.
        """
        return plain.loads(text, QuantizationReport, KIND)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON to `path`, beside and renamed.

        Raises:
            TfqError: the path cannot be written.
        """
        save_pieces(iter([self.to_json().encode()]), path)

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write a page with tables and pictures; needs the optional extra `report`.

        Raises:
            TfqError: jinja2 or matplotlib is missing, or the path cannot be written.
        """
        from tfq_fine.report import html

        save_pieces(iter([html.quantization_page(self).encode()]), path)

    def _summary(self) -> list[RenderableType]:
        ratio = f" ({self.float_bytes / self.file_bytes:.2f} times smaller)" if self.file_bytes else ""
        heading = f"recipe {self.recipe}: {tables.size(self.float_bytes)} bytes -> {tables.size(self.file_bytes)}{ratio}"
        parts: list[RenderableType] = [tables.line(heading), self._by_kind()]
        reasons = _grouped(self.rows, lambda row: (row.mode, row.reason), lambda row: bool(row.reason))
        if reasons:
            rows = [(mode, reason, str(len(found)), tables.listed([row.label for row in found]))
                    for (mode, reason), found in reasons.items()]  # fmt: skip
            parts.append(tables.table("Float, or less than asked", ("mode", "reason", ">ops", "where"), rows))
        if self.layer_error:
            worst = [(tables.brief_name(name), tables.decibels(sqnr)) for name, sqnr in self.worst_layers()]
            parts.append(tables.table("Worst layers", ("layer", ">SQNR dB"), worst))
        return parts + [tables.line(f"note: {note}") for note in self.notes]

    def _by_kind(self) -> RenderableType:
        groups = _grouped(self.rows, lambda row: (row.code, row.mode, row.weights, row.activations), lambda row: True)
        rows = [
            (*key, str(len(found)), _total(found, "bytes_before"), _total(found, "bytes_after"))
            for key, found in groups.items()
        ]
        columns = ("operator", "mode", "weights", "activations", ">ops", ">bytes before", ">after")
        return tables.table("Operators", columns, rows)

    def _listing(self) -> RenderableType:
        rows = [
            (
                tables.brief_name(row.label, 40),
                row.code,
                row.mode,
                row.weights,
                row.activations,
                tables.decibels(row.sqnr_weights),
                tables.size(row.bytes_after),
                row.reason,
            )
            for row in self.rows
        ]
        columns = ("layer", "operator", "mode", "weights", "activations", ">weight SQNR dB", ">bytes", "reason")
        return tables.table("All operators", columns, rows)


def load(path: str | os.PathLike[str]) -> QuantizationReport:
    """Read what `QuantizationReport.save` wrote.

    Raises:
        TfqError: the file is missing, or is not such a report.
    """
    try:
        return QuantizationReport.from_json(Path(path).read_text())
    except OSError as error:
        raise TfqError(f"{path} cannot be read: {error.strerror}") from error


def _grouped(
    rows: tuple[OpRow, ...], key: Callable[[OpRow], Any], wanted: Callable[[OpRow], bool]
) -> dict[Any, list[OpRow]]:
    """Rows by key, in the order of their first appearance."""
    found: dict[Any, list[OpRow]] = {}
    for row in rows:
        if wanted(row):
            found.setdefault(key(row), []).append(row)
    return found


def _total(rows: list[OpRow], field: str) -> str:
    return tables.size(sum(getattr(row, field) for row in rows))
