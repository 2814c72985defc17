"""Files of a plan from codes that are fitted already: in a moment, to know their sizes and to compare plans."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tfq_converters.graph import Graph
from tfq_converters.quantized import OpKey, WeightCodes
from tfq_converters.writer import size_of
from tfq_fine.mixed_precision.fitting import FittedCandidate
from tfq_fine.mixed_precision.ground import Ground
from tfq_fine.mixed_precision.layers_on_disk import LayersOnDisk, unit_place
from tfq_fine.mixed_precision.measures import Measure, NoiseShare
from tfq_fine.mixed_precision.units import Candidate, Choice, Unit
from tfq_fine.request import IntegerSpec, OpSpec
from tfq_fine.variants import FloatOutputs, Numbers, Trial, Variant, choose_numbers, fold_and_plan, judged


@dataclass(frozen=True)
class Plans:
    """All plans of a model over fitted candidates.

    Attributes:
        ground: the model, its layers and its samples.
        fitted: the candidates by name.
        trial: runs files on the samples.
        measure: makes what files are compared by of the float model's outputs.
        measure_key: what tells it from others.
        kept: figures of files, on disk.
    """

    ground: Ground
    fitted: Mapping[Candidate, FittedCandidate]
    trial: Trial
    measure: Callable[[FloatOutputs], Measure]
    measure_key: object
    kept: LayersOnDisk

    @property
    def graph(self) -> Graph:
        """The float graph."""
        return self.ground.graph

    @property
    def units(self) -> tuple[Unit, ...]:
        """Its layers."""
        return self.ground.units

    def uniform(self, candidate: Candidate) -> dict[Unit, Candidate]:
        """Return the choice of one candidate for all units."""
        return dict.fromkeys(self.units, candidate)

    def default(self, choice: Choice) -> OpSpec | None:
        """Return what operators without weights get: float, or the spec of most layers that compute in integers."""
        specs = [c.spec for c in self.ground.candidates if isinstance(c.spec, IntegerSpec)]
        counts = Counter(c.spec for c in choice.values() if isinstance(c.spec, IntegerSpec))
        return max((spec for spec in specs if spec in counts), key=lambda spec: counts[spec], default=None)

    def numbers(self, choice: Choice) -> Numbers:
        """Return the numbers of the file of a choice, with the codes that were fitted to float inputs."""
        requested = {key: self.default(choice) for key, _ in self.graph.ops()}
        codes: dict[tuple[OpKey, int], WeightCodes] = {}
        for unit, candidate in choice.items():
            requested |= dict.fromkeys(unit.keys, candidate.spec)
            kept = self.fitted[candidate].codes
            codes |= {place: stored for place, stored in kept.items() if place[0] in unit.keys}
        settings, ground = self.trial.settings, self.ground
        _, plan = fold_and_plan(self.graph, requested, settings.policy, fold=False)
        variant = Variant(self.graph, requested, corrected=frozenset(plan))
        statistics = ground.ranged(plan)
        return choose_numbers(self.graph, plan, statistics, settings, variant, given=codes, cache=ground.cache)

    def size(self, choice: Choice) -> int:
        """Return the bytes of the file of a choice."""
        return int(self._kept("size", choice, lambda: size_of(self.numbers(choice).quantized)))

    def decibels(self, choice: Choice) -> float:
        """Return the SQNR in dB of the file of a choice, in the mean over the samples that decide."""
        return self._kept("decibels", choice, lambda: self.trial.measure(lambda: self.numbers(choice)).db)

    def figure(self, choice: Choice) -> float:
        """Return how good the file of a choice is by the measure, in dB."""
        if self._loss is None:
            return self.decibels(choice)
        loss = self._loss

        def figure() -> float:
            quantized = self.numbers(choice).quantized
            tensors = [*(judge.tensor for judge in judged(self.graph)), *self.graph.main.outputs]
            values = self.trial.values(quantized, tensors)
            return loss.figure([loss.loss(n, each) for n, each in enumerate(values)])

        return self._kept(self.measure_key, choice, figure)

    @cached_property
    def _loss(self) -> Measure | None:
        """The measure; None where it is the SQNR."""
        made = self.measure(self.trial.reference.outputs)
        return None if isinstance(made, NoiseShare) else made

    def _kept(self, what: object, choice: Choice, make: Callable[[], float]) -> float:
        """Return a figure of the file of a choice, from disk where it is there."""
        layers = [(unit_place(unit), self.ground.texts[c]) for unit, c in choice.items()]
        name = self.kept.name(what, repr(self.default(choice)), layers)
        figure = self.kept.numbers(name)
        if figure is None:
            figure = [float(make())]
            if math.isfinite(figure[0]):  # else it could not be run, which may be otherwise another time
                self.kept.keep_numbers(name, figure)
        return figure[0]


def byte_costs(
    plans: Plans, base: Candidate, candidates: Sequence[Candidate]
) -> tuple[int, dict[tuple[Unit, Candidate], float]]:
    """Return (the bytes of the file with `base` for all units, what each candidate of a unit adds to or takes from it).

    Each difference is that of two files, so that scales, biases, names and conversions count.
    """
    whole = plans.uniform(base)
    size = plans.size(whole)
    costs: dict[tuple[Unit, Candidate], float] = {}
    for unit in plans.units:
        done = {plans.fitted[base].decisions(unit): 0}
        for candidate in candidates:
            same = plans.fitted[candidate].decisions(unit)
            if same not in done:
                done[same] = plans.size(whole | {unit: candidate}) - size
            costs[unit, candidate] = float(done[same])
    return size, costs
