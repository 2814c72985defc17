"""The losses and the bytes of each candidate of each layer of a model, before there is a budget."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from tfq_converters.graph import AnyArray, Graph
from tfq_converters.runtime import FileRuns
from tfq_fine.calibration import Representative, Sample
from tfq_fine.mixed_precision.assembly import Plans, byte_costs
from tfq_fine.mixed_precision.conditions import Conditions
from tfq_fine.mixed_precision.fitting import FittedCandidate, fit_candidates, fit_on
from tfq_fine.mixed_precision.ground import Ground, prepared
from tfq_fine.mixed_precision.latency import time_costs
from tfq_fine.mixed_precision.layers_on_disk import KeptLayer, LayersOnDisk, machine, unit_place
from tfq_fine.mixed_precision.measures import MEASURES, Labels, Measure
from tfq_fine.mixed_precision.second_order import second_order
from tfq_fine.mixed_precision.sensitivity import Encodings, PartialRuns, sensitivities
from tfq_fine.mixed_precision.units import Candidate, Choice, Unit
from tfq_fine.planning import Decision
from tfq_fine.progress import Stages, Step
from tfq_fine.variants import FloatOutputs, Settings, Trial
from tfq_fine.weights import Fitting

Pair = tuple[Unit, Candidate]
Table = Mapping[Pair, float]
Ways = Mapping[Unit, Sequence[tuple[Encodings, Sequence[Candidate]]]]


@dataclass(frozen=True)
class Explored:
    """The layers of a model and their candidates.

    Attributes:
        candidates: the candidates of every layer.
        plans: makes files of choices at once.
        loss: what is lost in the outputs with only this layer quantized, by (layer, candidate).
        bytes: what a candidate adds to the file in place of `base`, by (layer, candidate).
        base: the candidate that sizes are counted from.
        base_bytes: the size of the file with it for all layers.
        float_bytes: the size of the float file.
        times: what a candidate takes longer than float, as a share of the model's time; None where nobody asks.
    """

    candidates: tuple[Candidate, ...]
    plans: Plans
    loss: Table
    bytes: Table
    base: Candidate
    base_bytes: int
    float_bytes: int
    times: Table | None = None

    @property
    def units(self) -> tuple[Unit, ...]:
        """The layers."""
        return self.plans.units

    def predicted_bytes(self, choice: Choice) -> int:
        """Return the bytes of a choice by the sum over layers."""
        return self.base_bytes + round(sum(self.bytes[pair] for pair in choice.items()))

    def predicted_loss(self, choice: Choice) -> float:
        """Return the loss of a choice by the sum over layers."""
        return sum(self.loss[pair] for pair in choice.items())

    def predicted_latency(self, choice: Choice) -> float | None:
        """Return the time of a choice as a multiple of float's, by the sum over layers; None where none was timed."""
        return None if self.times is None else 1 + sum(self.times[pair] for pair in choice.items())

    def smallest(self) -> dict[Unit, Candidate]:
        """Return the choice of fewest bytes; of equal ones, that of least loss."""
        return {
            unit: min(self.candidates, key=lambda c: (self.bytes[unit, c], self.loss[unit, c])) for unit in self.units
        }

    def most_exact(self) -> dict[Unit, Candidate]:
        """Return the choice of least loss; of equal ones, that of fewest bytes."""
        return {
            unit: min(self.candidates, key=lambda c: (self.loss[unit, c], self.bytes[unit, c])) for unit in self.units
        }


@dataclass(frozen=True)
class Measuring:
    """How the outputs are compared.

    Attributes:
        name: a name of `MEASURES`.
        label_of: the label of a sample; None where the measure reads none.
    """

    name: str = "sqnr"
    label_of: Callable[[Sample], AnyArray] | None = None

    def labels(self, samples: Sequence[Sample]) -> Labels | None:
        """Return the labels of samples; None where the measure reads none."""
        return None if self.label_of is None else [self.label_of(sample) for sample in samples]

    def made(self, graph: Graph, samples: Sequence[Sample]) -> Callable[[FloatOutputs], Measure]:
        """Return what makes the measure of the float model's outputs on samples."""
        labels = self.labels(samples)
        return lambda expected: MEASURES[self.name].make(graph, expected, labels)


def explored(
    graph: Graph,
    material: Representative,
    candidates: Sequence[Candidate],
    conditions: Conditions,
    files: FileRuns,
    shown: Stages,
    float_bytes: int,
    is_timed: bool = False,
    measuring: Measuring | None = None,
    are_named: bool = True,
) -> Explored:
    """Fit all candidates, and measure what each does to the outputs and to the size.

    Args:
        graph: the float graph.
        material: representative samples.
        candidates: the candidates of every layer.
        conditions: how layers are fitted and measured.
        files: the process that runs files.
        shown: shows what is being done.
        float_bytes: the size of the float file.
        is_timed: candidates are timed, too.
        measuring: how outputs are compared; the share of noise when None.
        are_named: see `prepared`.

    Raises:
        TfqError: there is nothing to choose, or the data is bad.
    """
    measuring = measuring or Measuring()
    ground = prepared(graph, material, candidates, conditions, shown, are_named)
    entries = _Entries(ground, conditions, measuring, is_timed)
    fitted = _fitted(ground, entries, conditions, shown)
    measure = measuring.made(graph, ground.samples.judged)
    trial = Trial(
        graph,
        Settings(ground.policy, no_islands=True),
        lambda *_: ground.known,
        replace(ground.samples, tried=ground.samples.judged),  # codes were fitted to some of the others
        files,
        ground.threads,
        fold=False,
    )
    plans = Plans(ground, {one.candidate: one for one in fitted}, trial, measure, entries.how, entries.kept)
    loss = _measured(ground, entries, plans, measure, measuring, conditions, shown)
    quantized = [c for c in ground.candidates if c.spec is not None]
    base = min(quantized, key=lambda c: sum(loss[unit, c] for unit in ground.units))
    with shown.stage("measuring sizes"):
        base_bytes, costs = _sized(plans, base, entries)
    times = _timed(ground, fitted, entries, conditions, shown) if is_timed else None
    return Explored(ground.candidates, plans, loss, costs, base, base_bytes, float_bytes, times)


class _Entries:
    """The entries of layers that are on disk already.

    Args:
        ground: the layers and their candidates.
        conditions: where entries are kept.
        measuring: how outputs are compared.
        is_timed: candidates are to be timed: where their times are not known, all of them must be encoded.
    """

    def __init__(self, ground: Ground, conditions: Conditions, measuring: Measuring, is_timed: bool) -> None:
        self.kept = LayersOnDisk(conditions.on_disk, ground.graph, ground.samples, ground.known)
        plans = [*ground.texts.values()]
        self.how = measuring.name, measuring.labels(ground.samples.judged)
        self.bytes_name = self.kept.name("bytes", plans)
        self.times_name = self.kept.name("times", plans, machine())
        self.names = {
            (unit, c): self.kept.name(unit_place(unit), ground.texts[c], self.how)
            for unit in ground.units
            for c in ground.candidates
        }
        self.times = self.kept.numbers(self.times_name) if is_timed else None
        reads = not is_timed or self.times is not None
        entries = {pair: self.kept.layer(name) for pair, name in self.names.items()} if reads else {}
        self.layers: dict[Pair, KeptLayer] = {pair: entry for pair, entry in entries.items() if entry is not None}


def _fitted(ground: Ground, entries: _Entries, conditions: Conditions, shown: Stages) -> list[FittedCandidate]:
    """Return all candidates with the codes of their layers, those on disk as they are."""
    fitted: Sequence[FittedCandidate] = [FittedCandidate(c, plan, {}, {}) for c, plan in ground.plans.items()]
    if len(entries.layers) < len(entries.names):
        pairs = {c: (plan, ground.ranged(plan)) for c, plan in ground.plans.items()}
        fit = fit_candidates if conditions.executor is None else partial(fit_on, conditions.executor)
        fitting = Fitting(partial(shown.steps, "fitting"), conditions.on_disk)
        fitted = fit(ground.graph, pairs, ground.units, ground.samples, fitting, entries.layers)
    return [_with_kept(one, entries.layers) for one in fitted]


def _with_kept(one: FittedCandidate, layers: Mapping[Pair, KeptLayer]) -> FittedCandidate:
    """Return a candidate with the codes of the layers that were on disk."""
    kept = [entry.codes for (_, c), entry in layers.items() if c == one.candidate]
    return one.with_codes({place: codes for each in kept for place, codes in each.items()})


def _measured(
    ground: Ground,
    entries: _Entries,
    plans: Plans,
    measure: Callable[[FloatOutputs], Measure],
    measuring: Measuring,
    conditions: Conditions,
    shown: Stages,
) -> Table:
    """Return what is lost with only this layer quantized, by (layer, candidate)."""
    loss = {pair: entry.loss for pair, entry in entries.layers.items()}
    ways = _ways(ground.units, [*plans.fitted.values()], entries.layers)
    asked = {unit: [own for own, _ in several] for unit, several in ways.items()}
    steps = {unit: Step(unit.name, 1.0) for unit in ground.units}
    with shown.steps("measuring layers", [*steps.values()]) as begin:
        runs = PartialRuns(ground.graph, ground.samples.judged, ground.threads, measure)
        show = lambda unit: begin(steps[unit])  # noqa: E731
        if MEASURES[measuring.name].is_estimated:
            results = second_order(runs, asked, show) if asked else iter(())
        else:
            results = sensitivities(runs, asked, show, conditions.executor)
        for unit, losses in results:
            for (_, alike), lost in zip(ways[unit], losses, strict=True):
                for c in alike:
                    loss[unit, c] = lost
                    entries.kept.keep_layer(entries.names[unit, c], KeptLayer(lost, plans.fitted[c].codes_of(unit)))
    return {pair: loss[pair] for pair in entries.names}  # in one order, which the choice among equals depends on


def _ways(units: Sequence[Unit], fitted: Sequence[FittedCandidate], known: Collection[Pair]) -> Ways:
    """Return, for every layer that is not known yet, its encodings and the candidates that give it each of them."""
    ways: dict[Unit, list[tuple[Encodings, list[Candidate]]]] = {}
    for unit in units:
        several: dict[tuple[Decision, ...], tuple[Encodings, list[Candidate]]] = {}
        for one in fitted:
            if (unit, one.candidate) not in known:
                own = {key: one.encodings[key] for key in unit.keys if key in one.encodings}
                several.setdefault(one.decisions(unit), (own, []))[1].append(one.candidate)
        if several:
            ways[unit] = [*several.values()]
    return ways


def _sized(plans: Plans, base: Candidate, entries: _Entries) -> tuple[int, Table]:
    """Return `byte_costs` of all pairs of a layer and a candidate, from disk where they are there."""
    numbers = entries.kept.numbers(entries.bytes_name)
    if numbers is None:
        base_bytes, costs = byte_costs(plans, base, list(plans.fitted))
        entries.kept.keep_numbers(entries.bytes_name, [base_bytes, *(costs[pair] for pair in entries.names)])
        return base_bytes, costs
    return int(numbers[0]), dict(zip(entries.names, numbers[1:], strict=True))


def _timed(
    ground: Ground, fitted: Sequence[FittedCandidate], entries: _Entries, conditions: Conditions, shown: Stages
) -> Table:
    """Return what candidates take longer than float, from disk where it is there."""
    if entries.times is not None:
        return dict(zip(entries.names, entries.times, strict=True))
    steps = {unit: Step(unit.name, 1.0) for unit in ground.units}
    with shown.steps("timing layers", [*steps.values()]) as begin:
        runs = PartialRuns(ground.graph, ground.samples.judged[:1], 1)
        table = conditions.target.table
        times = time_costs(runs, ground.units, fitted, table, lambda unit: begin(steps[unit]))
    entries.kept.keep_numbers(entries.times_name, [times[pair] for pair in entries.names])
    return times
