"""The report of what quantization did to every operator."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from tfq_converters.brief import brief
from tfq_converters.check import nan_as_worst
from tfq_converters.quantized import Mode
from tfq_fine.report.activations import ActivationRow
from tfq_fine.report.exports import layer_rows
from tfq_fine.report.measurements import LayerError
from tfq_fine.report.provenance import Provenance, titled
from tfq_fine.report.quantization_sections import SECTIONS
from tfq_fine.report.saved import SavedReport
from tfq_fine.report.sections import Section, brief_name, decibels, size
from tfq_fine.report.verdict import Verdict, is_far, is_off
from tfq_fine.request import warn_of

WORST = 5  # how many of the worst layers the summary shows


@dataclass(frozen=True)
class OpRow:
    """One operator of the float graph."""

    __repr__ = brief

    name: str  # the name of its output tensor
    layer: str  # the Keras layer it came from, "" when unknown
    code: str  # the schema's name, such as CONV_2D
    mode: Mode
    weights: str = ""  # such as "int8 per-channel"; "" without weights
    activations: str = ""  # such as "int8"; "" when they are float
    reason: str = ""  # why it stayed float, or got less than asked
    sqnr_weights: float | None = None  # dB
    bytes_before: int = 0  # bytes of its constants
    bytes_after: int = 0
    algorithm: str = ""  # how the codes of its weights were found, such as "comq, damping 0.2"
    form: str = ""  # how the file holds and computes the weights (`tfq_converters.kernels.realizations`); "" without

    @property
    def label(self) -> str:
        """How the operator is called: its layer when known, else its output tensor."""
        return self.layer or self.name


@dataclass(frozen=True)
class TransformRow:
    """One transform (`tfq_fine.variants.select_transforms`) and what it brought."""

    name: str
    applied: bool
    text: str  # where it was applied, or why not
    before: float | None = None  # SQNR in dB of the outputs without it, on `samples` of the calibration samples
    after: float | None = None  # with it
    samples: int = 0


@dataclass(frozen=True)
class QuantizationReport(SavedReport):
    """The operators that were quantized, those that stayed float and why, and the cost in accuracy and bytes."""

    __repr__ = brief

    KIND: ClassVar[str] = "tfq_fine.quantization_report"

    rows: tuple[OpRow, ...]  # in execution order
    recipe: str
    file_bytes: int
    float_bytes: int
    notes: tuple[str, ...] = ()
    layer_error: tuple[tuple[str, float], ...] = ()  # (layer or tensor, SQNR in dB), in graph order; or not measured
    activations: tuple[ActivationRow, ...] = ()  # what an integer operator reads or computes, in graph order
    transforms: tuple[TransformRow, ...] = ()  # one for each that was asked for
    verdict: Verdict | None = None  # on the file as a whole; None where it could not be run so
    generated: bool = False  # errors per layer were measured on generated inputs, for want of data
    warnings: tuple[str, ...] = ()  # about mistakes in the data that calibration cannot refuse
    layers: tuple[LayerError, ...] = ()  # own and inherited errors, in graph order; empty: not measured
    provenance: Provenance | None = field(default=None, compare=False)

    FORMER: ClassVar[Mapping[str, str]] = {"repairs": "transforms"}

    @property
    def repairs(self) -> tuple[TransformRow, ...]:
        """The former name of `transforms`."""
        warn_of("repairs", "transforms")
        return self.transforms

    def layer_rows(self) -> list[dict[str, Any]]:
        """Return a dict for each layer, as `SavedReport.layer_rows` says; empty unless layers were measured."""
        return layer_rows(self.layers, {row.layer: row.weights for row in self.rows if row.weights})

    def op_rows(self) -> list[dict[str, Any]]:
        """Return a dict of plain values for each operator, in execution order, as `pandas.DataFrame` takes.

        Keys: those of `OpRow`, and sqnr_output, the SQNR of the layer's output in dB (None: not measured).
        """
        errors = dict(self.layer_error)
        return [asdict(row) | {"sqnr_output": errors.get(row.layer, errors.get(row.name))} for row in self.rows]

    def left_float(self) -> tuple[OpRow, ...]:
        """Return the operators that compute in float although something else was asked: those with a reason."""
        return tuple(row for row in self.rows if row.mode == "float" and row.reason)

    def worst_layers(self, count: int = WORST) -> tuple[tuple[str, float], ...]:
        """Return the layers with the lowest SQNR, lowest first; NaN is lowest of all."""
        return tuple(sorted(self.layer_error, key=lambda pair: (not math.isnan(pair[1]), pair[1]))[:count])

    def poor_outputs(self) -> tuple[str, ...]:
        """Return a warning of outputs that are far from the float model's, the layers to blame, and what to try."""
        weak = () if self.verdict is None else self.verdict.weak()
        if self.verdict is None or not weak:
            return ()
        figures = ", ".join(
            f"{row.name} {decibels(row.sqnr)} dB" + (f" and {row.points:.2f} points off" if is_off(row) else "")
            for row in weak
        )
        far = "far from" if any(is_far(row) for row in weak) else "off from"
        blamed = ", ".join(brief_name(name) for name, _ in self.lossy_layers())
        advice = (
            "give representative data, so that this is measured on it"
            if self.verdict.generated
            else "try full_int16x8 or dynamic_int8, other samples, or keep these layers float by Rule(None, layer=...)"
        )
        layers = f"; the most is lost in {blamed}" if blamed else ""
        on = self.verdict.on
        return (f"the outputs are {far} the float model's ({figures}, on {on}){layers}: {advice}",)

    def lossy_layers(self, count: int = 3) -> tuple[tuple[str, float], ...]:
        """Return the layers whose SQNR falls most below that of the layers before, in dB, the greatest fall first."""
        best, falls = math.inf, []
        for name, sqnr in self.layer_error:
            value = nan_as_worst(sqnr)
            falls.append((name, best - value))
            best = min(best, value) if math.isfinite(value) else best
        finite = [(name, fall) for name, fall in falls if fall > 0 and math.isfinite(fall)]
        return tuple(sorted(finite, key=lambda pair: -pair[1])[:count])

    def in_brief(self) -> str:
        """Return recipe, sizes, how many operators are in which mode, and the outputs' SQNR: one line."""
        counts = Counter(row.mode for row in self.rows)
        modes = ", ".join(f"{count} {mode}" for mode, count in counts.most_common())
        sizes = f"{size(self.float_bytes)} -> {size(self.file_bytes)} bytes"
        text = f"{self.recipe}: {sizes}; operators: {modes or 'none'}"
        if self.verdict is None or not self.verdict.outputs:
            return text
        worst = min(self.verdict.outputs, key=lambda row: nan_as_worst(row.sqnr))
        many = f", the worst of {len(self.verdict.outputs)}" if len(self.verdict.outputs) > 1 else ""
        return f"{text}; {brief_name(worst.name)} {decibels(worst.sqnr)} dB{many}, on {self.verdict.on}"

    def _sections(self, all: bool) -> list[Section]:
        return self._in("heading", "summary", "text", *(["listings"] if all else []))

    def _page(self) -> tuple[str, list[Section]]:
        return titled(f"Quantization: {self.recipe}", self.provenance), self._in(
            "top", "summary", "pictures", "listings"
        )

    def _in(self, *places: str) -> list[Section]:
        return [
            section for place in places for row in SECTIONS.values() if row.place == place for section in row.make(self)
        ]
