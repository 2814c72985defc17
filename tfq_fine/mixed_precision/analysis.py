"""`analyze`: which layer hurts at which step of the hierarchy, whether its weights or its activations do, and why."""

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from rich.console import Group

from tfq_converters.brief import brief
from tfq_converters.errors import extras_named
from tfq_converters.graph import Float32Array, Float64Array, Graph
from tfq_converters.kernels import DEFAULT_RUNTIMES
from tfq_converters.operators import weight_axes
from tfq_fine.mixed_precision.conditions import Conditions, started
from tfq_fine.mixed_precision.exploration import Explored, explored
from tfq_fine.mixed_precision.sensitivity import PartialRuns
from tfq_fine.mixed_precision.units import FLOAT, Candidate, Unit
from tfq_fine.numerics import ErrorSums
from tfq_fine.report import (
    GOOD_DB,
    SQNR_EXPLAINED,
    Banner,
    Figures,
    Grid,
    HtmlPage,
    Lines,
    Paragraph,
    Provenance,
    Section,
    decibels,
    plain_text,
    rich_group,
)
from tfq_fine.request import (
    ActivationSpec,
    Blocks,
    ChannelGroups,
    Granularity,
    OpSpec,
    PerChannel,
    PerTensor,
    Quality,
    WeightSpec,
)

GRANULARITIES: dict[str, Granularity] = {
    "per tensor": PerTensor(),
    "groups of 8 channels": ChannelGroups(8),
    "per channel": PerChannel(),
    "blocks of 32": Blocks(32),
}
WEIGHTS, DYNAMIC, STATIC = "8 bits per channel", "dynamic activations", "static activations"
BLAMED_DB = 6.0  # by which activations must lower the error of weights alone, to be to blame
HELPS_DB = 6.0  # which a suggestion must bring
EXACT_DB = 120.0
INSIDE = 4  # samples that the layers' own outputs are compared on
STANDS_OUT_DB = 1.0  # which the outputs gain with a layer in float, for it to stand out
OWN = ("layer", ">own, dB", ">reached, dB", ">inherited, %", ">all but this layer, dB", ">gain, dB")
UNLIKE = 8.0  # times the median of the channels, which the largest has


def hierarchy() -> dict[str, OpSpec]:
    """Return the steps by name: 8, 4 and 2 bits at each granularity, weights alone; then activations of 8 bits."""
    steps: dict[str, OpSpec] = {
        f"{bits} bits {name}": OpSpec("weight_only", WeightSpec(bits, granularity))
        for bits in (8, 4, 2)
        for name, granularity in GRANULARITIES.items()
    }
    return steps | {
        DYNAMIC: OpSpec("dynamic", WeightSpec(8)),
        STATIC: OpSpec("integer", WeightSpec(8), ActivationSpec(8)),
    }


@dataclass(frozen=True)
class LayerAnalysis:
    """One layer.

    Attributes:
        layer: its name and operator.
        sqnr_db: step of the hierarchy -> SQNR of the model's outputs with only this layer so; 120 where they are equal.
        bytes: step -> bytes that it takes more than the smallest step.
        blame: "activations" where 8 bits of them add much to the noise that 8 bits of weights make, else "weights".
        reasons: what the values show.
        suggestion: a rule to paste, with what it brings and costs; "" where nothing brings much.
        own_db: SQNR of the layer's own output where the layer computes with static activations on float inputs.
        reached_db: SQNR of that output where the whole model does: with what the layer inherits from those before it.
        others_db: SQNR of the model's outputs where all layers but this one do.
    """

    __repr__ = brief

    layer: str
    sqnr_db: Mapping[str, float]
    bytes: Mapping[str, int]
    blame: str
    reasons: tuple[str, ...]
    suggestion: str
    own_db: float
    reached_db: float
    others_db: float

    @property
    def inherited(self) -> float:
        """The share of the noise in the layer's output that is not its own; 0 where its own is larger than all."""
        return max(0.0, 1 - 10 ** ((self.reached_db - self.own_db) / 10))


@dataclass(frozen=True)
class Analysis(HtmlPage):
    """All layers, and the whole model at each step."""

    __repr__ = brief

    layers: tuple[LayerAnalysis, ...]
    sqnr_db: Mapping[str, float]
    bytes: Mapping[str, int]
    float_bytes: int
    provenance: Provenance | None = field(default=None, compare=False)

    def sections(self) -> list[Section]:
        """Return the tables, and pictures of them."""
        steps = list(self.sqnr_db)
        worst = sorted(self.layers, key=lambda row: row.sqnr_db[STATIC])
        head = ("layer", *(f">{step}" for step in steps))
        grid = [(row.layer, *(decibels(row.sqnr_db[step]) for step in steps)) for row in self.layers]
        whole = [("SQNR of the outputs, dB", *(decibels(self.sqnr_db[step]) for step in steps))]
        sizes = [("% of the float file", *(f"{100 * self.bytes[step] / self.float_bytes:.1f}" for step in steps))]
        said = [(row.layer, row.blame, "; ".join(row.reasons), *self._advice(row)) for row in worst]
        own = [
            (
                row.layer,
                decibels(row.own_db),
                decibels(row.reached_db),
                f"{100 * row.inherited:.0f}",
                decibels(row.others_db),
                f"{row.others_db - self.sqnr_db[STATIC]:+.1f}",
            )
            for row in self.layers
        ]
        return [
            Paragraph("SQNR of the model's outputs in dB, on samples that nothing was fitted to; higher is better."),
            Grid("The whole model at each step", ("", *head[1:]), [*whole, *sizes]),
            Grid("Only this layer", head, grid),
            Paragraph(
                "With static activations of 8 bits. Own: the layer's output, computed on float inputs. Reached: that "
                "output in the whole model. Inherited: the part of the noise there that comes from layers before it. "
                "All but this layer: the model's outputs, and what they gain over the whole model."
            ),
            Grid("Own and inherited error", OWN, own),
            Grid(
                "What to do, the worst in 8 bits first",
                ("layer", "to blame", "because", ">outputs gain, dB", "`rule"),
                said,
            ),
        ]

    def _advice(self, row: LayerAnalysis) -> tuple[str, str]:
        """Return what the outputs gain with that layer in float, and the rule where that is anything."""
        gain = row.others_db - self.sqnr_db[STATIC]
        return f"{gain:+.1f}", row.suggestion if gain > 0 else ""

    def page_sections(self) -> list[Section]:
        """Return what the page shows: the judgement and what to do first, the figure of the hierarchy, all tables."""
        _, whole, layers, said, own, advice = self.sections()
        origin = [] if self.provenance is None else [self.provenance.grid()]
        return [
            self._judgement(),
            self._figures(),
            advice,
            Paragraph(SQNR_EXPLAINED),
            self._hierarchy(),
            whole,
            layers,
            said,
            own,
            *origin,
        ]

    def _judgement(self) -> Banner:
        static, weights = self.sqnr_db[STATIC], self.sqnr_db[WEIGHTS]
        worst = sorted(self.layers, key=lambda row: row.sqnr_db[STATIC])
        hurt = [row for row in worst if row.suggestion and row.others_db >= static + STANDS_OUT_DB]
        if not hurt:
            text = f"Full int8 has {decibels(static)} dB at the outputs, and no single layer would gain much from more."
            return Banner("good" if static >= GOOD_DB else "plain", "No layer stands out.", text)
        names = ", ".join(row.layer for row in hurt[:3])
        text = (
            f"Full int8 has {decibels(static)} dB at the outputs (8-bit weights alone {decibels(weights)} dB). "
            f"Most is lost in {names}: the rules below keep what they need."
        )
        tone: Literal["plain", "poor"] = "plain" if static >= GOOD_DB else "poor"
        return Banner(tone, f"{len(hurt)} of {len(self.layers)} layers stand out.", text)

    def _figures(self) -> Figures:
        shown = {"8-bit weights": WEIGHTS, "4-bit weights, blocks of 32": "4 bits blocks of 32", "Full int8": STATIC}
        return Figures(
            [
                (
                    name,
                    f"{decibels(self.sqnr_db[step])} dB",
                    f"{100 * self.bytes[step] / self.float_bytes:.0f} % of the float file",
                )
                for name, step in shown.items()
            ]
        )

    def _hierarchy(self) -> Lines:
        """Return error against size on this model: a line for each width, from per-tensor scales to blocks."""

        def point(step: str) -> tuple[float, float]:
            return 100 * self.bytes[step] / self.float_bytes, self.sqnr_db[step]

        series = {
            f"{bits} bits, weights alone": [point(f"{bits} bits {name}") for name in GRANULARITIES]
            for bits in (8, 4, 2)
        }
        others = {DYNAMIC: [point(DYNAMIC)], STATIC: [point(STATIC)]}
        axes = ("size, % of the float file", "SQNR of the outputs, dB")
        about = "Each line goes from one scale per tensor over groups of channels and channels to blocks of 32 inputs."
        return Lines("Granularity against size on this model", axes, {**series, **others}, about)

    def to_json(self) -> str:
        """Return all figures as JSON text."""
        layers = [{**asdict(row), "inherited": row.inherited} for row in self.layers]
        return json.dumps({**asdict(self), "layers": layers}, indent=1)

    def __str__(self) -> str:
        return plain_text(self.sections(), 200)

    def __rich__(self) -> Group:
        return rich_group(self.sections())

    def layer_rows(self) -> list[dict[str, Any]]:
        """Return the layers as plain dicts: `pandas.DataFrame(analysis.layer_rows())`; a column for each step."""
        return [
            {"layer": row.layer, "blame": row.blame, "own_db": row.own_db, "reached_db": row.reached_db}
            | {"inherited": row.inherited, "others_db": row.others_db, "suggestion": row.suggestion}
            | {f"{step}: dB": value for step, value in row.sqnr_db.items()}
            | {f"{step}: bytes": value for step, value in row.bytes.items()}
            for row in self.layers
        ]

    def _page(self) -> tuple[str, list[Section]]:
        return "Analysis of layers", self.page_sections()


@extras_named()
def analyze(
    model: Any,
    data: Any,
    *,
    quality: Quality = "fast",
    runtimes: str | Sequence[str] = DEFAULT_RUNTIMES,
    num_samples: int | None = None,
    executor: Executor | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    safe_mode: bool = True,
    timeout: float | None = None,
) -> Analysis:
    """Quantize each layer alone at each step of the hierarchy, and compare the outputs with the float model's.

    Args:
        model: any float model that `quantize` takes.
        data: representative samples, in any form that `quantize` takes.
        quality: see `quantize`; "fast" shows what formats do, the others what is left once weights are fitted.
        runtimes: see `quantize`. A step that their kernels do not compute for a layer is the nearest that they do.
        num_samples: see `quantize`.
        executor: any `concurrent.futures.Executor`, which fits and measures layers: threads, processes, Dask.
        cache_dir: see `quantize`; what is known of layers is kept there, too.
        progress: see `quantize`.
        safe_mode: see `quantize`.
        timeout: see `quantize`.

    Raises:
        TfqError: bad input, or a model without layers that have weights.
    """
    steps = tuple(Candidate(name, spec) for name, spec in hierarchy().items())
    plain = Candidate(FLOAT, None)
    conditions = Conditions.of(
        runtimes=runtimes,
        quality=quality,
        num_samples=num_samples,
        executor=executor,
        cache_dir=cache_dir,
        progress=progress,
        safe_mode=safe_mode,
        timeout=timeout,
    )
    with started(model, data, conditions, "analyze") as job:
        graph, shown, size = job.source.graph, job.shown, job.float_bytes
        table = explored(graph, job.material, (*steps, plain), conditions, job.files, shown, size, are_named=False)
        with shown.stage("measuring the whole model"):
            uniform = {c: table.plans.uniform(c) for c in steps}
            whole = {c.name: table.plans.decibels(choice) for c, choice in uniform.items()}
            sizes = {c.name: table.plans.size(choice) for c, choice in uniform.items()}
        static = next(c for c in steps if c.name == STATIC)
        with shown.stage("measuring all but one layer", len(table.units)) as advance:
            errors = layer_errors(graph, table, static)
            others = {}
            for unit in table.units:
                others[unit] = table.plans.decibels({**uniform[static], unit: plain})
                advance(1)
    layers = tuple(_layer(graph, table, unit, errors[unit], others[unit]) for unit in table.units)
    return Analysis(layers, whole, sizes, size, Provenance.of(model, data))


def layer_errors(graph: Graph, table: Explored, static: Candidate) -> dict[Unit, tuple[float, float]]:
    """Return (own, reached) SQNR in dB of the outputs of each layer in the file with `static` for all layers."""
    trial = table.plans.trial
    quantized = table.plans.numbers(table.plans.uniform(static)).quantized
    names = {tensor.name: t for t, tensor in enumerate(graph.main.tensors)}
    inside = trial.inside(quantized)
    reached = {names[tensor.name]: inside[t] for t, tensor in enumerate(quantized.graph.main.tensors) if t in inside}
    runs = PartialRuns(graph, trial.samples[:INSIDE], 1)
    own: dict[int, ErrorSums] = {}
    for key in sorted(key for unit in table.units for key in unit.keys):
        runs.go_to(key[1])
        own |= runs.own_errors({key: quantized.ops[key]} if key in quantized.ops else {})
    errors = {}
    for unit in table.units:
        outputs = [t for _, o in unit.keys for t in graph.main.ops[o].outputs if t in own and t in reached]
        totals = [sum((sums[t] for t in outputs), ErrorSums()) for sums in (own, reached)]
        errors[unit] = min(totals[0].sqnr_db, EXACT_DB), min(totals[1].sqnr_db, EXACT_DB)
    return errors


def _layer(graph: Graph, table: Explored, unit: Unit, errors: tuple[float, float], others: float) -> LayerAnalysis:
    steps = [c for c in table.candidates if c.spec is not None]
    sqnr = {c.name: _decibels(table.loss[unit, c]) for c in steps}
    least = min(table.bytes[unit, c] for c in steps)
    sizes = {c.name: round(table.bytes[unit, c] - least) for c in steps}
    blame = "activations" if sqnr[STATIC] < sqnr[WEIGHTS] - BLAMED_DB else "weights"
    reasons, suggestion = _reasons(graph, unit, sqnr), _suggestion(unit, sqnr, sizes)
    return LayerAnalysis(unit.name, sqnr, sizes, blame, reasons, suggestion, *errors, others)


def _decibels(noise: float) -> float:
    return min(-10 * float(np.log10(noise)), EXACT_DB) if noise > 0 else EXACT_DB


def _reasons(graph: Graph, unit: Unit, sqnr: Mapping[str, float]) -> tuple[str, ...]:
    """Return what the weights and the steps show."""
    reasons = []
    op = graph.main.ops[unit.keys[0][1]]
    (axes, *_) = weight_axes(op, graph.main)
    largest = _channel_maxima(graph.main.tensors[op.inputs[axes.slot]].constant, axes.channel)
    dead = int((largest == 0).sum())
    if dead:
        reasons.append(f"{dead} of {len(largest)} channels are dead")
    alive = largest[largest > 0]
    if len(alive) and alive.max() > UNLIKE * np.median(alive):
        reasons.append(f"outlier channels: the largest is {alive.max() / np.median(alive):.0f} times the median")
    if sqnr[WEIGHTS] > sqnr["8 bits per tensor"] + HELPS_DB:
        reasons.append("one scale for unlike channels")
    if sqnr["4 bits blocks of 32"] > sqnr["4 bits per channel"] + HELPS_DB:
        reasons.append("one scale for unlike inputs")
    if sqnr[DYNAMIC] > sqnr[STATIC] + HELPS_DB:
        reasons.append("a static range is wide for most samples, or clips some")
    return tuple(reasons)


def _channel_maxima(weight: Float32Array, channel: int) -> Float64Array:
    others = tuple(axis for axis in range(weight.ndim) if axis != channel)
    return np.asarray(np.abs(weight).max(axis=others), np.float64)


def _suggestion(unit: Unit, sqnr: Mapping[str, float], sizes: Mapping[str, int]) -> str:
    """Return the cheapest rule that brings this layer much more than static 8 bits."""
    better = [step for step in (DYNAMIC, WEIGHTS) if sqnr[step] >= sqnr[STATIC] + HELPS_DB]
    if not better:
        return ""
    step = min(better, key=lambda name: sizes[name])
    recipe = "dynamic_int8" if step == DYNAMIC else "weight_only_int8"
    where = f"layer={unit.layer!r}, op={unit.code!r}" if unit.layer else f"op={unit.code!r}"
    brings, costs = sqnr[step] - sqnr[STATIC], sizes[step] - sizes[STATIC]
    return f'tfq.Rule(tfq.RECIPES["{recipe}"].default, {where})  # {brings:+.1f} dB alone, {costs:+,} bytes'
