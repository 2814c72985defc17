"""The proposal to divide outlier channels by an operator of their own, where no constant can be scaled."""

from dataclasses import replace
from math import isfinite

from tfq_fine.request import IntegerSpec
from tfq_fine.transforms import (
    ALPHAS,
    choose_smoothing,
    decibels,
    float_makers,
    log_factors,
    smooth_quant_factors,
    unscaled_paths,
    with_products,
)
from tfq_fine.variants.float_requests import in_float
from tfq_fine.variants.proposals import levels_of, moved_requests
from tfq_fine.variants.smoothing import channels_on
from tfq_fine.variants.transform import Proposal
from tfq_fine.variants.trial import Trial
from tfq_fine.variants.variant import Variant


def multiplied(variant: Variant, trial: Trial) -> Proposal:
    """Divide channels by the factors of SmoothQuant or of FPTQ, whichever has the least estimated noise.

    What makes an activation of integer operators is computed in float: rounded outliers cannot be mended afterwards.
    """
    main = variant.graph.main
    levels = {o: level for o, level in levels_of(variant).items() if isfinite(level.activation)}
    makers = {}
    for path in unscaled_paths(variant.graph):
        read = [leaf.op for leaf in path.leaves if leaf.op in levels]
        is_integer = any(isinstance(variant.requested.get((0, o)), IntegerSpec) for o in read)
        before = float_makers(main, path.tensor) if is_integer else frozenset()
        if read and (before or not is_integer):
            makers[path] = before
    if not makers:
        return Proposal("no activation whose channels no constant scales")
    channels = channels_on(variant.graph, list(makers), trial, True)
    smoothing = choose_smoothing(
        variant.graph,
        list(makers),
        channels,
        levels,
        lambda x, w: [log_factors(x), *(smooth_quant_factors(x, w, alpha) for alpha in ALPHAS)],
    )
    text = f"{len(smoothing.changes)} activations, estimated gain {decibels(smoothing.before, smoothing.after):.1f} dB"
    if not smoothing.changes:
        return Proposal(f"{text}: not worth measuring")
    requested = in_float(variant, [makers[path] for path, _ in smoothing.changes])
    rewritten = with_products(variant.graph, smoothing.changes)
    products = [n for n, o in enumerate(rewritten.origin) if n and rewritten.origin[n - 1] == o]
    moved = {**moved_requests(requested, rewritten), **{(0, n): None for n in products}}
    return Proposal(text, (replace(variant, graph=rewritten.graph, requested=moved),))
