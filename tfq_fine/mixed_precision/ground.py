"""The ground of a search before anything is fitted: the layers, a plan for each candidate, and the samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tfq_converters.errors import TfqError, raise_all
from tfq_converters.graph import Graph, IdentityCache
from tfq_fine.calibration import Representative, Sample, Statistics, mean_needs
from tfq_fine.mixed_precision.conditions import Conditions
from tfq_fine.mixed_precision.layers_on_disk import plan_text
from tfq_fine.mixed_precision.units import Candidate, Unit, units_of
from tfq_fine.planning import Plan, Policy
from tfq_fine.progress import Stages
from tfq_fine.request import OpSpec, with_quality
from tfq_fine.variants import SplitSamples, Variant, choose_ranges, fold_and_plan
from tfq_fine.weights import plan_needs


@dataclass(frozen=True)
class Ground:
    """The layers of a model and a plan for each of their candidates.

    Attributes:
        graph: the float graph.
        units: its layers.
        policy: who decides where kernels do not compute a candidate.
        specs: candidate -> its spec with the algorithm of the quality that was asked for.
        plans: candidate -> what the kernels give of it to every operator.
        known: the statistics of all samples.
        all_samples: the samples that were kept.
        threads: the number of threads of the interpreter.
    """

    graph: Graph
    units: tuple[Unit, ...]
    policy: Policy
    specs: Mapping[Candidate, OpSpec | None]
    plans: Mapping[Candidate, Plan]
    known: Statistics
    all_samples: tuple[Sample, ...]
    threads: int
    cache: IdentityCache = field(default_factory=IdentityCache)  # what was computed for other plans

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The candidates of every layer."""
        return tuple(self.plans)

    @cached_property
    def samples(self) -> SplitSamples:
        """The samples that weights are fitted to, and those that layers and files are judged on."""
        return SplitSamples.of(self.graph, self.all_samples, fits=True)

    @cached_property
    def texts(self) -> Mapping[Candidate, str]:
        """A text that tells each candidate's plan from others."""
        return {c: plan_text(plan) for c, plan in self.plans.items()}

    def ranged(self, plan: Plan) -> Statistics:
        """Return the statistics with the ranges that observers choose for a plan."""
        if not plan.integer_ops:
            return self.known
        ops = tuple(sorted(plan.integer_ops.items()))
        choose = lambda: choose_ranges(self.graph, plan, self.known, self.samples.judged)  # noqa: E731
        return self.cache.once(choose, self.graph, key=ops)

    def statistics(self, variant: Variant) -> Statistics:
        """Return the statistics with the ranges of a variant's plan."""
        return self.ranged(fold_and_plan(self.graph, variant.requested, self.policy, fold=False)[1])


def prepared(
    graph: Graph,
    material: Representative,
    candidates: Sequence[Candidate],
    conditions: Conditions,
    shown: Stages,
    are_named: bool = True,
) -> Ground:
    """Plan every candidate for every layer, and read the data.

    Args:
        graph: the float graph.
        material: representative samples.
        candidates: the candidates of every layer.
        conditions: how layers are fitted.
        shown: shows what is being done.
        are_named: the user named the candidates, so that one that no layer can get is an error; else it is left out.

    Raises:
        TfqError: there is nothing to choose, or the data is bad.
    """
    units = units_of(graph)
    if not units:
        raise TfqError("the model has no layer with weights: there is nothing to choose")
    policy = Policy("size", True, conditions.target)
    specs = {c: with_quality(c.spec, conditions.quality, True) for c in candidates}
    requests = {c: dict.fromkeys(dict(graph.ops()), spec) for c, spec in specs.items()}
    plans = {c: fold_and_plan(graph, requested, policy, fold=False)[1] for c, requested in requests.items()}
    nowhere = {c: why for c, plan in plans.items() if (why := _runs_nowhere(plan, specs[c], units))}
    if are_named:
        raise_all(f"candidates: no layer can get {c.name!r}: {why}" for c, why in nowhere.items())
    plans = {c: plan for c, plan in plans.items() if c not in nowhere}
    needs = mean_needs(graph)
    for plan in plans.values():
        needs = needs.also(plan_needs(graph, plan, bool(plan.integer_ops)))
    with shown.stage("calibrating", material.count) as advance:
        gathered = material.gather(graph, needs, advance)
    samples, threads = tuple(gathered.samples), material.reading.threads
    return Ground(graph, units, policy, specs, plans, gathered.requested, samples, threads)


def _runs_nowhere(plan: Plan, spec: OpSpec | None, units: Sequence[Unit]) -> str:
    """Return why no layer gets the bits and the mode of a candidate; "" where one does."""
    if spec is None:
        return ""
    decisions = [plan[key] for unit in units for key in unit.keys]
    if any(_is_like(decision.spec, spec) for decision in decisions):
        return ""
    return next((decision.reason for decision in decisions if decision.reason), "the kernels do not compute it")


def _is_like(given: OpSpec | None, asked: OpSpec) -> bool:
    """Return whether the kernels give the mode and the bits that were asked for."""
    if given is None or given.mode != asked.mode:
        return False
    bits = [spec.weights.bits if spec.weights is not None else 0 for spec in (given, asked)]
    return bits[0] == bits[1]
