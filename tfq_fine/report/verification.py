"""The cost of a quantized file against its float model, as measured side by side."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from tfq_converters.brief import brief
from tfq_converters.errors import TfqError
from tfq_fine.report.exports import layer_rows
from tfq_fine.report.layers import layer_sections
from tfq_fine.report.measurements import FileSize, Latency, LayerError, OutputError, TaskResult
from tfq_fine.report.provenance import Provenance, titled
from tfq_fine.report.saved import SavedReport
from tfq_fine.report.sections import (
    Banner,
    Bars,
    Figures,
    Grid,
    Paragraph,
    Section,
    brief_name,
    decibels,
    share,
    size,
)
from tfq_fine.request import MaxDrop

WORST = 8  # how many of the worst layers and weights the summary shows
ROUNDING = 1e-9  # 0.99 - 0.98 is a drop of 0.01, whatever float64 says


@dataclass(frozen=True)
class Report(SavedReport):
    """A float model and its quantized file, run side by side."""

    __repr__ = brief

    KIND: ClassVar[str] = "tfq_fine.verification_report"

    samples: int
    outputs: tuple[OutputError, ...]
    float_size: FileSize
    quantized_size: FileSize
    task: TaskResult | None = None
    layers: tuple[LayerError, ...] = ()  # activations, in graph order; empty: not measured
    weights: tuple[LayerError, ...] = ()  # in 16 bits or fewer, in graph order
    layer_samples: int = 0  # samples that `layers` was measured on
    latency: Latency | None = None
    kernels: str = "default"
    notes: tuple[str, ...] = ()
    # where each of several signatures was verified: their reports, and above the sums, with outputs as `encode: code`
    signatures: "Mapping[str, Report]" = field(default_factory=dict)
    provenance: Provenance | None = field(default=None, compare=False)
    max_drop: str = ""  # the largest drop of the metric that was asked for, such as "1%"; "": none

    @staticmethod
    def of_signatures(parts: "Mapping[str, Report]", float_bytes: int, quantized_bytes: int) -> "Report":
        """Return the report of a file from those of its signatures, measured on the same two files."""
        first = next(iter(parts.values()))
        return Report(
            samples=sum(part.samples for part in parts.values()),
            outputs=tuple(replace(o, name=f"{key}: {o.name}") for key, part in parts.items() for o in part.outputs),
            float_size=replace(first.float_size, file_bytes=float_bytes),
            quantized_size=replace(first.quantized_size, file_bytes=quantized_bytes),
            kernels=first.kernels,
            signatures=dict(parts),
        )

    @property
    def tasks(self) -> dict[str, TaskResult]:
        """The metrics that were measured, by signature; under "" where the report is of one alone."""
        parts = self.signatures or {"": self}
        return {key: part.task for key, part in parts.items() if part.task is not None}

    def passed(self, max_drop: float | str | MaxDrop) -> bool:
        """Return whether the metric got worse by at most `max_drop` (`0.01`, `"1%"`), in every signature with one.

        Raises:
            TfqError: no metric was measured; a negative limit, or one above 0.5 of a share without a percent sign.
        """
        return not self.fell(max_drop)

    def fell(self, max_drop: float | str | MaxDrop) -> dict[str, TaskResult]:
        """Return the `tasks` that got worse by more than `max_drop`, or by NaN.

        Raises:
            TfqError: as `passed` does.
        """
        if not self.tasks:
            raise TfqError("the report holds no metric: verify with metric=... and labels")
        return {key: task for key, task in self.tasks.items() if not _within(task, MaxDrop.of(max_drop))}

    def layer_rows(self) -> list[dict[str, Any]]:
        """Return a dict for each layer, as `SavedReport.layer_rows` says; of several signatures one after the other."""
        own = layer_rows(self.layers, {error.layer: error.dtype for error in self.weights})
        return own + [row for part in self.signatures.values() for row in part.layer_rows()]

    def worst_layers(self, count: int = WORST) -> tuple[LayerError, ...]:
        """Return the activations with the lowest SQNR, lowest first; NaN is lowest of all."""
        return _worst(self.layers, count)

    def worst_weights(self, count: int = WORST) -> tuple[LayerError, ...]:
        """Return the weights with the lowest SQNR, lowest first."""
        return _worst(self.weights, count)

    def _page(self) -> tuple[str, list[Section]]:
        origin = [] if self.provenance is None else [self.provenance.grid()]
        return titled("Verification", self.provenance), [
            *self._judgement(),
            *self._figures(),
            *self._details(),
            *origin,
        ]

    def _judgement(self) -> list[Section]:
        """Return whether the file keeps to what was asked."""
        if not self.max_drop or not self.tasks:
            what = "no metric was measured" if not self.tasks else "no largest drop was asked for"
            return [Banner("plain", "Compared.", f"The two files ran on {self.samples} samples; {what}.")]
        fell = self.fell(self.max_drop)
        said = "; ".join(
            f"{key + ': ' if key else ''}{task.name} {task.float_value:.4g} in float, "
            f"{task.quantized_value:.4g} in the file"
            for key, task in self.tasks.items()
        )
        word = "FAIL." if fell else "PASS."
        return [Banner("poor" if fell else "good", word, f"{said}; at most {self.max_drop} worse was asked for.")]

    def _figures(self) -> list[Section]:
        """Return the numbers that a reader wants first."""
        before, after = self.float_size.file_bytes, self.quantized_size.file_bytes
        entries = [
            ("Size", f"{size(after)} bytes", f"{after / before:.1%} of float's {size(before)}" if before else "")
        ]
        for key, task in self.tasks.items():
            where = f"{key}: " if key else ""
            held = "" if task.drop_low is None else f"; 95 % between {task.drop_low:+.4f} and {task.drop_high:+.4f}"
            change = f"{abs(task.drop):.4f} {'worse' if task.drop > 0 else 'better'}" if task.drop else "no change"
            note = f"{task.float_value:.4f} in float: {change}{held}"
            entries.append((f"{where}{task.name}", f"{task.quantized_value:.4f}", note))
        if self.latency is not None:
            t = self.latency
            note = f"{t.ratio:.2f} of float's {t.float_ms:.4g} ms; {t.threads} thread{'s' * (t.threads != 1)}"
            entries.append(("Latency", f"{t.quantized_ms:.4g} ms", note))
        for output in self.outputs:
            agreed = "" if output.top1_agreement is None else f"{output.top1_agreement:.1%} have the same top-1; "
            note = f"{agreed}{self.samples} samples, {self.kernels} kernels"
            entries.append((f"SQNR of {brief_name(output.name, 30)}", f"{decibels(output.sqnr_db)} dB", note))
        return [Figures(entries)]

    def _details(self) -> list[Section]:
        """Return layers, outputs and bytes; of several signatures one after the other, each after its name."""
        if not self.signatures:
            return self._of_one()
        parts = self.signatures.items()
        return [s for key, part in parts for s in (Paragraph(f"Signature {key}"), *part._of_one())]

    def _of_one(self) -> list[Section]:
        stored = {error.layer: error.dtype for error in self.weights}
        layers = layer_sections(self.layers, stored, f", on {self.layer_samples} samples")
        weights = [replace(s, folded=True) for s in self._layers(all=True) if isinstance(s, Grid)]
        notes = [Paragraph(f"Note: {note}") for note in self.notes]
        return [*layers, *self._results(), *self._pictures(), *weights[len(self.layers) > 0 :], *notes]

    def _sections(self, all: bool) -> list[Section]:
        what = f"{self.samples} sample{'s' * (self.samples != 1)}, {self.kernels} kernels"
        if self.signatures:
            heading = f"Float against quantized: {len(self.signatures)} signatures, {what}"
            each = (s for key, part in self.signatures.items() for s in part._of_signature(key, all))
            return [Paragraph(heading), *each, self._sizes()]
        notes = [Paragraph(f"Note: {note}") for note in self.notes]
        return [Paragraph(f"Float against quantized: {what}"), *self._results(), *self._layers(all), *notes]

    def _of_signature(self, key: str, all: bool) -> list[Section]:
        """Return one part of the report of a file: what `_sections` shows, without the sizes."""
        notes = [Paragraph(f"Note: {note}") for note in self.notes]
        heading = Paragraph(f"Signature {key}: {self.samples} sample{'s' * (self.samples != 1)}")
        results = (section for section in self._results() if section != self._sizes())
        return [heading, *results, *self._layers(all), *notes]

    def _results(self) -> list[Section]:
        sections: list[Section] = []
        if self.task is not None:
            row = (self.task.name, *(f"{value:.4f}" for value in self._task_values(self.task)))
            sections.append(Grid("Task", ("metric", ">float", ">quantized", ">drop"), [row]))
        outputs = [
            (
                brief_name(o.name),
                decibels(o.sqnr_db),
                f"{o.max_error:.4g}",
                f"{o.cosine:.6f}",
                share(o.top1_agreement),
                "" if o.tied is None else str(o.tied),
                share(o.top5_agreement),
            )
            for o in self.outputs
        ]
        columns = ("output", ">SQNR dB", ">max error", ">cosine", ">same top-1", ">tied", ">in top-5")
        sections += [Grid("Outputs", columns, outputs), self._sizes()]
        if self.latency is not None:
            t = self.latency
            what = f"median of {t.repeats}, batch {t.batch_size}, {t.threads} thread{'s' * (t.threads != 1)}"
            times = (f"{t.float_ms:.4g}", f"{t.quantized_ms:.4g}", f"{t.ratio:.2f}", what)
            sections.append(Grid("Latency", (">float ms", ">quantized ms", ">ratio", "measured"), [times]))
        return sections

    @staticmethod
    def _task_values(task: TaskResult) -> tuple[float, float, float]:
        return task.float_value, task.quantized_value, task.drop

    def _sizes(self) -> Grid:
        before, after = self.float_size, self.quantized_size
        ratio = f"{after.file_bytes / before.file_bytes:.2f}"
        rows = [("file", size(before.file_bytes), size(after.file_bytes), ratio)]
        for name in self._types():
            rows += [(name, size(before.by_type.get(name, 0)), size(after.by_type.get(name, 0)), "")]
        return Grid("Bytes: the file, and its constants by type", ("", ">float", ">quantized", ">ratio"), rows)

    def _types(self) -> list[str]:
        return sorted({*self.float_size.by_type, *self.quantized_size.by_type})

    def _layers(self, all: bool) -> list[Section]:
        sections: list[Section] = []
        columns = ("layer", "operator", "type", ">SQNR dB", ">max error")
        for what, errors in (("activations", self.layers), ("weights", self.weights)):
            if errors:
                shown = errors if all else _worst(errors, WORST)
                title = what.capitalize() if all else f"Worst {what} ({len(shown)} of {len(errors)})"
                if what == "activations":
                    title += f", on {self.layer_samples} samples"
                rows = [(e.label, e.code, e.dtype, decibels(e.sqnr_db), f"{e.max_error:.4g}") for e in shown]
                sections.append(Grid(title, columns, rows))
        return sections

    def _pictures(self) -> list[Section]:
        sections: list[Section] = []
        types = self._types()
        if types:
            sides = {"float file": self.float_size.by_type, "quantized file": self.quantized_size.by_type}
            series = {name: [by_type.get(dtype, 0) for dtype in types] for name, by_type in sides.items()}
            sections.append(Bars("Bytes of constants, by type", "bytes", types, series))
        return sections


def _within(task: TaskResult, limit: MaxDrop) -> bool:
    """Return whether a metric got worse by no more than that; False when the drop is NaN."""
    is_share = task.higher_is_better and all(not abs(v) > 1 for v in (task.float_value, task.quantized_value))
    return task.drop <= limit.limit(is_share, task.float_value) + ROUNDING


def _worst(errors: tuple[LayerError, ...], count: int) -> tuple[LayerError, ...]:
    return tuple(sorted(errors, key=lambda error: (not math.isnan(error.sqnr_db), error.sqnr_db))[:count])
