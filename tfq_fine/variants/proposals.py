"""Proposals: what each transform would make of a variant, by estimates where measuring takes long."""

from collections.abc import Mapping
from dataclasses import replace

from tfq_converters.graph import Graph
from tfq_converters.operators import data_of, facts_of, weight_axes
from tfq_fine.activations import has_masks
from tfq_fine.numerics import is_large
from tfq_fine.request import WeightedSpec
from tfq_fine.transforms import (
    Changes,
    Levels,
    Rewritten,
    ScalingPath,
    choose_scales,
    decibels,
    fold_batch_norm,
    of_unknown_size,
    powers_of_two,
    scalable,
    scaled,
    tensors_on,
)
from tfq_fine.variants.bias_choice import folds, helped
from tfq_fine.variants.transform import Proposal
from tfq_fine.variants.trial import Trial
from tfq_fine.variants.variant import RequestedSpecs, Variant
from tfq_fine.weights import corrects, corrects_biases

QUICK = 64  # output channels of each operator that estimates look at in a large model
WORTH_DB = 2.0  # estimated gain of equalization over all samples, below which it is not measured
HOPEFUL_DB = 1.0  # estimated gain on a few samples, below which the others are not looked at
EXACT = 1e-5  # how far float outputs may move, to the largest one


def folded_batch_norm(variant: Variant, trial: Trial) -> Proposal:
    """Fold batch norm after an activation into the weights around it."""
    folded = fold_batch_norm(variant.graph)
    if not folded.folded:
        return Proposal(f"nothing to fold: {folded.kept[0]}" if folded.kept else "nothing to fold")
    rewritten = folded.rewritten
    after = replace(variant, graph=rewritten.graph, requested=moved_requests(variant.requested, rewritten))
    return Proposal(f"{len(folded.folded)} folded, such as {folded.folded[0]}", (after,))


def equalized(variant: Variant, trial: Trial) -> Proposal:
    """Scale the channels of activations to one range, where the estimate says that it pays to measure it.

    A few samples estimate the gain; the factors come from all of them, so that no channel is scaled up because it
    was inactive in a few. They are those of the largest values, or of the typical ones.
    """
    levels, paths = levels_of(variant), scalable(variant.graph)
    if not levels or not paths:
        return Proposal("no activation between linear operators whose channels can be scaled exactly")
    graph, rows = variant.graph, QUICK if is_large(variant.graph) else None
    looked_at = _looked_at(graph, levels, paths)
    trial.channels(graph, [*looked_at, *of_unknown_size(graph)], False)  # in one pass with what smooth_quant looks at
    for all_samples, enough in ((False, HOPEFUL_DB), (True, WORTH_DB)):
        measured_channels = trial.channels(graph, looked_at, all_samples)
        typical = {t: channels.typical() for t, channels in measured_channels.items()}
        scales = [choose_scales(graph, channels, levels, rows) for channels in (measured_channels, typical)]
        estimates = [decibels(each.before, each.after) for each in scales]
        text = f"{len(scales[0].changes)} activations, estimated gain {estimates[0]:.1f} dB"
        if max(estimates) < enough:
            return Proposal(f"{text}: not worth measuring")
    rewritten = (_scaled(graph, each.changes, trial) for each in scales if each.changes)
    return Proposal(text, tuple(replace(variant, graph=each) for each in rewritten))


def _scaled(graph: Graph, changes: Changes, trial: Trial) -> Graph:
    """Scale channels; by powers of two, which round nothing, where other factors move the outputs of the graph.

    A network whose decisions are steep may move by more than `EXACT` for nothing but other roundings in float.
    """
    rewritten = scaled(graph, changes)
    moves = trial.reference.difference(rewritten) > EXACT
    return scaled(graph, [(path, powers_of_two(scale)) for path, scale in changes]) if moves else rewritten


def masked(variant: Variant, trial: Trial) -> Proposal:
    """Cut the ranges of masked scores, which the variant has cut already, to what SOFTMAX can tell."""
    whole = replace(variant, bounded_masks=False)
    if not has_masks(variant.graph) or not trial.planned(variant)[1].integer_ops:
        return Proposal("no masks in integers", before=whole)
    text = "masks before SOFTMAX; what they are added to would stay float without"
    return Proposal(text, (variant,), before=whole)


def corrected(variant: Variant, trial: Trial) -> Proposal:
    """Correct biases where that helps on samples that the correction was not fitted to."""
    graph, plan = trial.planned(variant)
    if not corrects_biases(graph, plan):
        return Proposal("no quantized weights with a bias")
    each = trial.means(variant)
    apart = folds(trial.statistics(variant), each, trial.counts, trial.fresh)
    if not apart:
        return Proposal("there are no other samples to judge it on")
    every = [key for key in helped(trial.numbers(variant).quantized, each, apart) if corrects(plan[key])]
    if not every:
        return Proposal("other samples than those it was fitted to gain nothing")
    after = replace(variant, corrected=frozenset(every))
    measured = trial.measured_apart(after, [(fold.samples, fold.means) for fold in apart])
    text = f"{len(every)} operators with weights and a bias, judged on other samples"
    return Proposal(text, (after,), measured=measured)


def moved_requests(requested: RequestedSpecs, rewritten: Rewritten) -> RequestedSpecs:
    """Return the requests for the operators of a rewritten main subgraph: those of their origins."""
    others = {key: spec for key, spec in requested.items() if key[0]}
    return {(0, new): requested[0, old] for new, old in enumerate(rewritten.origin)} | others


def _looked_at(graph: Graph, levels: Mapping[int, Levels], paths: Mapping[int, ScalingPath]) -> list[int]:
    """Return the activations that estimates need."""
    main = graph.main
    read = dict.fromkeys(data_of(main.ops[o]) for o in levels)
    read |= dict.fromkeys(t for path in paths.values() for t in tensors_on(main, path))
    return [t for t in read if t not in main.inputs and not main.tensors[t].is_constant]


def levels_of(variant: Variant) -> dict[int, Levels]:
    """Return linear operator of the main subgraph -> how finely it is quantized."""
    levels = {}
    for (s, o), spec in variant.requested.items():
        op = variant.graph.main.ops[o] if s == 0 else None
        if op is None or facts_of(op.code).weight is None or not isinstance(spec, WeightedSpec):
            continue
        if weight_axes(op, variant.graph.main):
            bits = 8 if spec.mode == "dynamic" else spec.activations.bits if spec.activations else 0
            levels[o] = Levels(2.0**bits - 1 if bits else float("inf"), 2.0 ** (spec.weights.bits - 1) - 1)
    return levels
