"""The stage between calibration and encodings: every activation's observer chooses its range from the statistics."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from tfq_converters.errors import raise_all
from tfq_converters.graph import Graph
from tfq_converters.quantized import TensorKey
from tfq_fine.activations.choose_encodings import data_slots, float_outputs
from tfq_fine.calibration import (
    OBSERVERS,
    Range,
    Statistics,
    StatisticsRequest,
    TensorStatistics,
    mean_needs,
    moved_from,
    range_needs,
)
from tfq_fine.planning import Plan
from tfq_fine.request import ActivationSpec, IntegerSpec


def requested_specs(graph: Graph, plan: Plan) -> Mapping[int, ActivationSpec]:
    """Return activation -> spec of the operator that computes it, else of its first reader (main subgraph).

    A tensor that holds the values of another has the spec of that one.

    Raises:
        TfqError: unknown observers or options; all of them.
    """
    return graph.derived.once(lambda: _requested_specs(graph, plan), plan, key="requested specs")


def _requested_specs(graph: Graph, plan: Plan) -> dict[int, ActivationSpec]:
    main, by_tensor = graph.main, dict[int, ActivationSpec]()
    specs = {o: plan[0, o].spec for o in plan.integer_ops}
    for by_output in (True, False):
        for o, spec in specs.items():
            op = main.ops[o]
            slots = float_outputs(op, main) if by_output else data_slots(op, main)
            for t in ((op.outputs if by_output else op.inputs)[slot] for slot in slots):
                if not main.tensors[t].is_constant and isinstance(spec, IntegerSpec):
                    by_tensor.setdefault(t, spec.activations)
    return by_tensor | {
        t: by_tensor[source] for t, source in moved_from(graph).items() if t in by_tensor and source in by_tensor
    }


def activation_needs(graph: Graph, plan: Plan, only: AbstractSet[int] | None = None) -> StatisticsRequest:
    """Return what the activations of a plan with integer operators need, for all ranges or `only` some."""
    return range_needs(graph).also(mean_needs(graph)).also(observer_needs(graph, plan, only))


def observer_needs(graph: Graph, plan: Plan, only: AbstractSet[int] | None = None) -> StatisticsRequest:
    """Return what the observers of a plan read besides ranges, for tensors that hold their own values.

    `only`: the tensors whose ranges are to be chosen, where not all are.
    """
    moved = moved_from(graph)
    histograms: dict[TensorKey, None] = {}
    extremes: dict[TensorKey, None] = {}
    moving: dict[tuple[TensorKey, float], None] = {}
    for t, spec in _asked_only(graph, plan, only).items():
        reads, key = OBSERVERS[spec.observer].reads, (0, moved.get(t, t))
        if reads == "histogram":
            histograms[key] = None
        elif reads == "extremes":
            extremes[key] = None
        elif reads == "moving":
            moving[key, options_of(spec)["momentum"]] = None
    return StatisticsRequest(histograms=tuple(histograms), extremes=tuple(extremes), moving=tuple(moving))


def options_of(spec: ActivationSpec) -> Mapping[str, float]:
    """Return the options of a spec's observer, with its defaults."""
    return {**OBSERVERS[spec.observer].options, **dict(spec.options)}


def _asked_only(graph: Graph, plan: Plan, only: AbstractSet[int] | None) -> dict[int, ActivationSpec]:
    return {t: spec for t, spec in requested_specs(graph, plan).items() if only is None or t in only}


def chosen(graph: Graph, plan: Plan, statistics: Statistics, only: AbstractSet[int] | None = None) -> Statistics:
    """Return the statistics with the range of every activation, or of `only` some, as its observer chooses it.

    Raises:
        TfqError: an observer reads what the statistics do not hold, or an unknown observer.
    """
    moved, specs = moved_from(graph), _asked_only(graph, plan, only)
    roots = {t: moved.get(t, t) for t in specs if (0, moved.get(t, t)) in statistics.ranges}
    observed = {t: _seen(root, specs[t], statistics) for t, root in roots.items()}
    raise_all(
        f"observer {specs[t].observer!r} of {graph.main.tensors[t].name} reads a {OBSERVERS[specs[t].observer].reads} "
        "statistic, which these statistics lack: calibrate with the recipe that is to be used"
        for t, tensor in observed.items()
        if tensor is None
    )
    by_root: dict[tuple[int, ActivationSpec], Range] = {}
    for t, tensor in observed.items():
        key = (roots[t], specs[t])
        if tensor is not None and key not in by_root:
            by_root[key] = OBSERVERS[specs[t].observer].choose(tensor, specs[t].bits, options_of(specs[t]))
    return statistics.with_ranges({(0, t): by_root[root, specs[t]] for t, root in roots.items()})


def _seen(root: int, spec: ActivationSpec, statistics: Statistics) -> TensorStatistics | None:
    """Return the statistics of a tensor; None where its observer needs more. No observer requires extremes."""
    key, reads = (0, root), OBSERVERS[spec.observer].reads
    tensor = TensorStatistics(
        statistics.ranges[key],
        statistics.histograms.get(key),
        statistics.extremes.get(key),
        statistics.moving.get(key),
    )
    return None if reads in ("histogram", "moving") and getattr(tensor, reads) is None else tensor
