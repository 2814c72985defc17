"""The proposal to rotate residual streams and the values of attention."""

from dataclasses import replace

from tfq_fine.transforms import residual_streams, rotatable_heads, rotated
from tfq_fine.variants.proposals import levels_of
from tfq_fine.variants.transform import Proposal
from tfq_fine.variants.trial import Trial
from tfq_fine.variants.variant import Variant


def rotated_channels(variant: Variant, trial: Trial) -> Proposal:
    """Turn what can be turned without an operator: the values of heads, residual streams, and both."""
    main, levels = variant.graph.main, levels_of(variant)
    heads = [each for each in rotatable_heads(main) if any(leaf.op in levels for leaf in each.leaves)]
    streams = [each for each in residual_streams(main) if any(o in levels for o in each.matrices)]
    ways = [([], heads), (streams, []), (streams, heads)]
    kept = [(s, h) for n, (s, h) in enumerate(ways) if (s or h) and (n < 2 or (streams and heads))]
    if not kept:
        return Proposal("no values of attention and no residual stream with RMS norms that only matrices read")
    text = f"{len(heads)} times the values of attention, {len(streams)} residual streams"
    return Proposal(text, tuple(replace(variant, graph=rotated(variant.graph, s, h)) for s, h in kept))
