"""The files that `benchmarks.granularity` compares, and the facts that it reads from one without running it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tfq_fine as tfq
from benchmarks.float_files import Files
from benchmarks.granularity_settings import MIXED_BITS, Setting
from benchmarks.sensitivity import sensitive_layers
from benchmarks.tool_run import ToolFailed, run_tool
from benchmarks.tools import CORES
from tfq_converters import flatbuffer
from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, Op, Subgraph
from tfq_converters.operators import OPS, facts_of
from tfq_converters.quantized import Mode
from tfq_fine.calibration import calibrate
from tfq_fine.calibration.statistics import Statistics
from tfq_fine.data import batches, input_specs
from tfq_fine.planning import touches_float
from tfq_fine.report import QuantizationReport
from tfq_fine.request.specs import WeightSpec

SENSITIVE = 0.25  # share of the layers of a mix that get more bits
SENSITIVITY_SAMPLES = 20


@dataclass(frozen=True)
class Made:
    """A file, or why there is none."""

    path: Path | None
    note: str  # the forms of its weights; or the error


class Maker:
    """Makes the files of one case."""

    def __init__(self, files: Files, work: Path, samples: int):
        self.files, self.work = files, work
        self.data = files.calibration(samples)
        self.graph = flatbuffer.read(str(files.tflite))
        self._statistics: Statistics | None = None
        self._sensitive: list[str] | None = None

    def ours(self, setting: Setting) -> Made:
        """Return tfq_fine's file: default algorithms, and as many operators as the recipe can quantize."""
        if setting.mixed:
            setting = setting.with_sensitive(self._sensitive_layers())
        return self._quantized(setting, setting.recipe, "ours")

    def equal(self, setting: Setting, peer: Graph) -> Made:
        """Return the recipe that quantizes just what the peer's file does: its rounding, its operators, its borders."""
        kept = float_codes(tfq_graph(self.files), peer, setting.spec.mode)
        borders = {"input_type": border(peer, peer.main.inputs), "output_type": border(peer, peer.main.outputs)}
        return self._quantized(setting, setting.plain(kept), "equal", **borders)

    def theirs(self, setting: Setting) -> Made:
        """Return litert-quantizer's file."""
        path = self._path(setting, "theirs")
        try:
            run_tool(setting.peer, self.files, path, len(self.data))
        except ToolFailed as failed:
            return Made(None, str(failed).strip().splitlines()[-1])
        return Made(path, "")

    def _quantized(self, setting: Setting, recipe: tfq.Recipe, whose: str, **options: str) -> Made:
        statistics = None if setting.folds else self._calibrated()
        try:
            result = tfq.quantize(
                str(self.files.tflite), recipe, self.data, prefer=setting.prefer, statistics=statistics, **options
            )
        except TfqError as error:
            return Made(None, str(error))
        path = self._path(setting, whose)
        path.write_bytes(result.content)
        return Made(path, forms(result.report))

    def _path(self, setting: Setting, whose: str) -> Path:
        return self.work / f"{self.files.folder.name}-{setting.name}-{whose}.tflite"

    def _calibrated(self) -> Statistics:
        """Return the statistics, gathered once for all settings that leave the float model unchanged."""
        if self._statistics is None:
            self._statistics = calibrate(self.graph, batches(self.data, input_specs(self.graph)), threads=CORES)
        return self._statistics

    def _sensitive_layers(self) -> list[str]:
        if self._sensitive is None:
            weights = WeightSpec(MIXED_BITS[1], algorithm="mse_clip")
            few = self.data[:SENSITIVITY_SAMPLES]
            self._sensitive = sensitive_layers(tfq_graph(self.files), few, weights, SENSITIVE)
        return self._sensitive


def tfq_graph(files: Files) -> Graph:
    """Return the float graph as tfq_fine reads it: operators know their layers."""
    from tfq_converters.reading import read_model

    return read_model(str(files.tflite)).graph


def forms(report: QuantizationReport) -> str:
    """Return how many operators store their weights in each form.

    >>> from tfq_fine.report.quantization import OpRow
    >>> row = OpRow("a", "a", "CONV_2D", "dynamic", "int4 per-channel", form="native")
    >>> forms(QuantizationReport((row, row), "r", 1, 1))
    '2 dynamic int4 per-channel (native)'
    """
    rows = Counter((row.mode.replace("_", "-"), row.weights, row.form) for row in report.rows if row.weights)
    return ", ".join(f"{count} {mode} {weights} ({form})" for (mode, weights, form), count in rows.most_common())


def float_codes(graph: Graph, peer: Graph, mode: Mode) -> list[str]:
    """Return the operators that `mode` could quantize and that the peer's file computes in float."""
    quantized = {op.code for op in peer.main.ops if is_quantized(op, peer.main)}
    codes = dict.fromkeys(op.code for op in graph.main.ops if touches_float(op, graph.main))
    able = [code for code in codes if (code in OPS if mode == "integer" else facts_of(code).weights)]
    return [code for code in able if code not in quantized]


def is_quantized(op: Op, main: Subgraph) -> bool:
    """Return whether `op` reads or writes codes of real values, or weights that are dequantized in the file."""
    if op.code in ("QUANTIZE", "DEQUANTIZE"):
        return False
    touched = [main.tensors[t] for t in (*op.inputs, *op.outputs) if t >= 0]
    if any(tensor.quantization is not None for tensor in touched):
        return True
    stored = {
        t for o in main.ops if o.code == "DEQUANTIZE" and main.tensors[o.inputs[0]].is_constant for t in o.outputs
    }
    return bool(facts_of(op.code).weights) and any(t in stored for t in op.inputs)


def quantizes_nothing(graph: Graph) -> bool:
    """Return whether no operator with weights has any in integers."""
    return not any(is_quantized(op, graph.main) for op in graph.main.ops if facts_of(op.code).weights)


def border(graph: Graph, tensors: tuple[int, ...]) -> str:
    """Return the type of a file's inputs or outputs."""
    return graph.main.tensors[tensors[0]].dtype


def agreement(expected: np.ndarray, found: np.ndarray) -> float:
    """Share of the samples with the same highest class."""
    return float(np.mean(expected.argmax(axis=1) == found.argmax(axis=1)))
