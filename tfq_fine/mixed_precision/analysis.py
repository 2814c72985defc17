"""`analyze`: which layer hurts at which step of the hierarchy, whether its weights or its activations do, and why."""

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tfq_converters.files import Place, write_file
from tfq_converters.graph import Float32Array, Float64Array, Graph
from tfq_converters.kernels import DEFAULT_RUNTIMES
from tfq_converters.operators import weight_axes
from tfq_fine.mixed_precision.conditions import Conditions, started
from tfq_fine.mixed_precision.exploration import Explored, explored
from tfq_fine.mixed_precision.sensitivity import PartialRuns
from tfq_fine.mixed_precision.units import FLOAT, Candidate, Unit
from tfq_fine.numerics import ErrorSums
from tfq_fine.report import Bars, Grid, Paragraph, Section, decibels, page, plain_text
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
class Analysis:
    """All layers, and the whole model at each step."""

    layers: tuple[LayerAnalysis, ...]
    sqnr_db: Mapping[str, float]
    bytes: Mapping[str, int]
    float_bytes: int

    def sections(self) -> list[Section]:
        """Return the tables, and pictures of them."""
        steps = list(self.sqnr_db)
        worst = sorted(self.layers, key=lambda row: row.sqnr_db[STATIC])
        head = ("layer", *(f">{step}" for step in steps))
        grid = [(row.layer, *(decibels(row.sqnr_db[step]) for step in steps)) for row in self.layers]
        whole = [("SQNR of the outputs, dB", *(decibels(self.sqnr_db[step]) for step in steps))]
        sizes = [("% of the float file", *(f"{100 * self.bytes[step] / self.float_bytes:.1f}" for step in steps))]
        said = [(row.layer, row.blame, "; ".join(row.reasons), row.suggestion) for row in worst]
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
        names = [row.layer for row in self.layers]
        series = {step: [row.sqnr_db[step] for row in self.layers] for step in (WEIGHTS, STATIC, "4 bits per channel")}
        return [
            Paragraph("SQNR of the model's outputs in dB, on samples that nothing was fitted to; higher is better."),
            Grid("The whole model at each step", ("", *head[1:]), [*whole, *sizes]),
            Bars("The whole model", "dB", steps, {"SQNR": [self.sqnr_db[step] for step in steps]}),
            Grid("Only this layer", head, grid),
            Bars("Only this layer", "dB", names, series),
            Paragraph(
                "With static activations of 8 bits. Own: the layer's output, computed on float inputs. Reached: that "
                "output in the whole model. Inherited: the part of the noise there that comes from layers before it. "
                "All but this layer: the model's outputs, and what they gain over the whole model."
            ),
            Grid("Own and inherited error", OWN, own),
            Grid("What to do, the worst in 8 bits first", ("layer", "to blame", "because", "rule"), said),
        ]

    def to_json(self) -> str:
        """Return all figures as JSON text."""
        layers = [{**asdict(row), "inherited": row.inherited} for row in self.layers]
        return json.dumps({**asdict(self), "layers": layers}, indent=1)

    def __str__(self) -> str:
        return plain_text(self.sections(), 200)

    def save_html(self, place: Place) -> None:
        """Write the tables and pictures as one page.

        Raises:
            TfqError: the place cannot be written, or an extra is not installed.
        """
        write_file(place, [page("Analysis of layers", self.sections()).encode()])


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
    return Analysis(layers, whole, sizes, size)


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
