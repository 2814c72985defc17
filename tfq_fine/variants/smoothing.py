"""Proposals of transforms that move outliers of activations, or of weights, to where they cost less.

What a norm makes is not looked at unless it reaches far beyond the root mean square of its middle channel, which costs
nothing. The others are estimated, first on the samples that are kept, and measured where the estimate promises enough.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from tfq_converters.graph import Float32Array, Graph
from tfq_converters.operators import WeightAxes, facts_of, weight_axes
from tfq_converters.quantized import Form
from tfq_fine.algorithms import WeightProblem, solve
from tfq_fine.numerics import is_large
from tfq_fine.planning import Plan
from tfq_fine.request import WeightedSpec, WeightSpec
from tfq_fine.transforms import (
    ALPHAS,
    HALF,
    TYPICAL,
    Channels,
    Rounded,
    Smoothing,
    SmoothingPath,
    choose_awq,
    choose_shifts,
    choose_smoothing,
    decibels,
    known_size,
    powers_of_two,
    shifted,
    smooth_quant_factors,
    smoothed,
    smoothing_paths,
)
from tfq_fine.variants.proposals import EXACT, HOPEFUL_DB, QUICK, WORTH_DB, levels_of
from tfq_fine.variants.transform import Proposal
from tfq_fine.variants.trial import Trial
from tfq_fine.variants.variant import Variant
from tfq_fine.weights import layout

OUTLIERS = 10.0  # root mean squares of its middle channel that a norm's result must reach to have outlier channels
NOTHING = "no activation with outliers whose channels can be scaled exactly"
Estimate = Callable[[Mapping[int, Channels], int | None], Sequence[Smoothing]]  # (channels, output channels looked at)


def smoothed_by_alpha(variant: Variant, trial: Trial) -> Proposal:
    """Divide outlier channels by the factors of SmoothQuant: alpha by activation, and 0.5 for all."""
    levels, paths = levels_of(variant), with_outliers(variant, trial)
    grids: tuple[tuple[float, ...], ...] = (ALPHAS, (HALF,))

    def estimate(channels: Mapping[int, Channels], most: int | None) -> list[Smoothing]:
        candidates = (lambda x, w, g=grid: [smooth_quant_factors(x, w, alpha) for alpha in g] for grid in grids)
        return [choose_smoothing(variant.graph, paths, channels, levels, each, most) for each in candidates]

    text, smoothings = _estimated(variant.graph, paths, trial, estimate)
    graphs = {id(each): smoothed_exactly(variant.graph, each, trial) for each in smoothings}
    return Proposal(text, tuple(replace(variant, graph=graph) for graph in graphs.values()))


def shifted_to_middle(variant: Variant, trial: Trial) -> Proposal:
    """Move the middle of each channel's range into the biases of what reads it."""
    levels = levels_of(variant)
    paths = [path for path in paths_to(variant, levels) if path.shifters]

    def estimate(channels: Mapping[int, Channels], most: int | None) -> list[Smoothing]:
        return [choose_shifts(variant.graph, paths, channels, levels, most)]

    nothing = "no activation whose channels can be shifted exactly"
    text, shifts = _estimated(variant.graph, paths, trial, estimate, nothing)
    return Proposal(text, tuple(replace(variant, graph=shifted(variant.graph, each.changes)) for each in shifts))


def scaled_for_weights(variant: Variant, trial: Trial) -> Proposal:
    """Scale weights of less than 8 bits up where they meet large activations, as AWQ does."""
    plan = trial.planned(variant)[1]
    rounded = dict(_roundings(variant.graph, plan))
    paths = [path for path in paths_to(variant, rounded) if path.makers]
    if not paths:
        return Proposal("no weights of less than 8 bits that read an activation whose channels can be scaled exactly")
    moments = trial.moments(variant.graph, [path.tensor for path in paths])
    smoothing = choose_awq(variant.graph, [path for path in paths if path.tensor in moments], moments, rounded)
    gained = decibels(smoothing.before, smoothing.after)
    text = f"{len(smoothing.changes)} activations, estimated gain {gained:.1f} dB"
    if not smoothing.changes:
        return Proposal(f"{text}: not worth measuring")
    return Proposal(text, (replace(variant, graph=smoothed_exactly(variant.graph, smoothing, trial)),))


def paths_to(variant: Variant, ops: Mapping[int, object]) -> list[SmoothingPath]:
    """Return the activations that any of `ops` reads."""
    return [path for path in smoothing_paths(variant.graph).values() if any(leaf.op in ops for leaf in path.leaves)]


def with_outliers(variant: Variant, trial: Trial) -> list[SmoothingPath]:
    """Return the activations that can be scaled and are not known to have no outlier channels."""
    paths = [path for path in paths_to(variant, levels_of(variant)) if path.makers]
    return [path for path in paths if _may_have_outliers(variant, trial, path)]


def _may_have_outliers(variant: Variant, trial: Trial, path: SmoothingPath) -> bool:
    """Return whether some channels of an activation are far larger than others, by what its norm and its range tell."""
    size = known_size(variant.graph, path)
    if size is None:
        return True
    ranges = trial.whole(variant).ranges
    tensors = (path.tensor, *path.inner) if path.through_attention else (path.tensor,)  # heads are means of values
    limits = [ranges[0, t].absmax for t in tensors if (0, t) in ranges]
    reach = max(limits, default=TYPICAL * float(size.max()))
    return reach > OUTLIERS * float(np.median(size))


def channels_on(graph: Graph, paths: Sequence[SmoothingPath], trial: Trial, all_samples: bool) -> dict[int, Channels]:
    """Return what is known of the channels of the activations of paths, and of those inside."""
    tensors = dict.fromkeys(t for path in paths for t in (path.tensor, *path.inner))
    return trial.channels(graph, list(tensors), all_samples)


def _estimated(
    graph: Graph, paths: Sequence[SmoothingPath], trial: Trial, estimate: Estimate, nothing: str = NOTHING
) -> tuple[str, list[Smoothing]]:
    """Return (a text, what is worth measuring)."""
    if not paths:
        return nothing, []
    most = QUICK if is_large(graph) else None
    for all_samples, enough in ((False, HOPEFUL_DB), (True, WORTH_DB)):
        smoothings = [each for each in estimate(channels_on(graph, paths, trial, all_samples), most) if each.changes]
        gained = max((decibels(each.before, each.after) for each in smoothings), default=0.0)
        changed = max((len(each.changes) for each in smoothings), default=0)
        text = f"{changed} activations, estimated gain {gained:.1f} dB"
        if gained < enough:
            return f"{text}: not worth measuring", []
    return text, smoothings


def smoothed_exactly(graph: Graph, smoothing: Smoothing, trial: Trial) -> Graph:
    """Divide channels; by powers of two, which round nothing, where other factors move the outputs of the graph."""
    rewritten = smoothed(graph, smoothing.changes)
    moves = trial.reference.difference(rewritten) > EXACT
    return smoothed(graph, [(path, powers_of_two(s)) for path, s in smoothing.changes]) if moves else rewritten


def _roundings(graph: Graph, plan: Plan) -> Iterator[tuple[int, Rounded]]:
    """Yield (linear operator, how its weights are rounded to the nearest codes) where they have less than 8 bits."""
    for o, op in enumerate(graph.main.ops):
        decision = plan.get((0, o))
        if decision is None or not isinstance(decision.spec, WeightedSpec) or facts_of(op.code).weight is None:
            continue
        spec = replace(decision.spec.weights, algorithm="round_to_nearest", options=())
        if spec.bits >= 8 or not weight_axes(op, graph.main):
            continue
        (axes,) = weight_axes(op, graph.main)
        yield o, partial(_rounded, axes, spec, decision.form)


def _rounded(axes: WeightAxes, spec: WeightSpec, form: Form, weight: Float32Array) -> Float32Array:
    return solve(spec, WeightProblem(weight, *layout(weight.shape, axes, spec, form), axes)).dequantize()
