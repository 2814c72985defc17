"""The proposal of FPTQ: how each activation that integer linear operators read is rounded, by its range.

By the thresholds of the paper (`transforms.log_equalization`) an activation is rounded with one static scale, with one
after its channels shrank to the logarithm of their range, or dynamically, token by token, in an otherwise static file.
Its readers are FULLY_CONNECTED of mode "dynamic" then, and what makes it is computed in float: a norm, or an activation
function together with the matrix before it, or the product of attention.

Other candidates: channels shrink where the estimate of noise says that it pays; and what cannot shrink without an
operator of its own is dynamic from v0 on. The file decides.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tfq_converters.graph import Subgraph
from tfq_converters.operators import data_of, facts_of
from tfq_fine.request import IntegerSpec, OpSpec
from tfq_fine.transforms import (
    Levels,
    Smoothing,
    SmoothingPath,
    choose_smoothing,
    float_makers,
    known_size,
    log_factors,
    smoothing_paths,
    source_of,
    strategy,
)
from tfq_fine.variants.float_requests import dynamic, in_float
from tfq_fine.variants.proposals import levels_of
from tfq_fine.variants.smoothing import NOTHING, channels_on, paths_to, smoothed_exactly, with_outliers
from tfq_fine.variants.transform import Proposal
from tfq_fine.variants.trial import Trial
from tfq_fine.variants.variant import RequestedSpecs, Variant


@dataclass(frozen=True)
class Activation:
    """An activation that integer linear operators read.

    Attributes:
        tensor: the activation, before reshapes.
        readers: these operators.
        path: how its channels are scaled; None where no constants can do that.
        makers: what is computed in float where it is dynamic; empty where it cannot be.
    """

    tensor: int
    readers: tuple[int, ...]
    path: SmoothingPath | None
    makers: frozenset[int]


def equalized_by_logarithm(variant: Variant, trial: Trial) -> Proposal:
    """Shrink channels to the logarithm of their range, or round token by token: by thresholds, and by estimate."""
    levels = {o: level for o, level in levels_of(variant).items() if isinstance(_spec(variant, o), IntegerSpec)}
    ranges = trial.whole(variant).ranges
    outliers = {path.tensor for path in with_outliers(variant, trial)}
    reach = {t: limits.absmax for (s, t), limits in ranges.items() if s == 0}
    looked_at = [
        each
        for each in _activations(variant, levels)
        if strategy(reach.get(each.tensor, 0.0)) != "static" or (each.path and each.tensor in outliers)
    ]
    if not looked_at:
        return Proposal(NOTHING)
    paths = [each.path for each in looked_at if each.path is not None]
    channels = channels_on(variant.graph, paths, trial, True)
    reach |= {path.tensor: float(channels[path.tensor].reach.max()) for path in paths}
    estimate = choose_smoothing(variant.graph, paths, channels, levels, lambda x, w: [log_factors(x)])
    ranged = {each.tensor: strategy(reach[each.tensor]) for each in looked_at}
    tokenwise = [each for each in looked_at if each.makers and ranged[each.tensor] == "dynamic"]
    is_dynamic = {each.tensor for each in tokenwise}
    changes = tuple(
        (path, log_factors(channels[path.tensor].reach))
        for path in paths
        if ranged[path.tensor] != "static" and path.tensor not in is_dynamic
    )
    others = [each for each in looked_at if each.path is None and each.makers and ranged[each.tensor] == "equalized"]
    by_range = Smoothing(changes, 0.0, 0.0)
    candidates = [(by_range, tokenwise)] if changes or tokenwise else []
    if others:
        candidates.append((by_range, [*tokenwise, *others]))
    if estimate.changes and (tokenwise or len(estimate.changes) != len(changes)):
        candidates.append((estimate, []))
    variants = (_made(variant, smoothing, rounded, trial) for smoothing, rounded in candidates)
    by_estimate = f"{len(estimate.changes)} by estimate"
    from_v0 = f", or {len(tokenwise) + len(others)} dynamic from v0 on" if others else ""
    text = f"{len(changes)} activations equalized and {len(tokenwise)} dynamic by range{from_v0}, {by_estimate}"
    return Proposal(text, tuple(variants))


def _made(variant: Variant, smoothing: Smoothing, tokenwise: Sequence[Activation], trial: Trial) -> Variant:
    graph = smoothed_exactly(variant.graph, smoothing, trial) if smoothing.changes else variant.graph
    return replace(variant, graph=graph, requested=_dynamic(variant, tokenwise))


def _spec(variant: Variant, o: int) -> OpSpec | None:
    return variant.requested.get((0, o))


def _activations(variant: Variant, levels: Mapping[int, Levels]) -> list[Activation]:
    """Return what integer linear operators read, but for what can neither be scaled nor be dynamic."""
    main = variant.graph.main
    paths = [path for path in paths_to(variant, levels) if path.makers]
    scaled = {leaf.op for path in paths for leaf in path.leaves}
    others: dict[int, list[int]] = {}
    for o in levels:
        if o not in scaled:
            others.setdefault(source_of(main, data_of(main.ops[o])), []).append(o)
    activations = [
        Activation(path.tensor, (*(leaf.op for leaf in path.leaves),), path, _float_makers(main, path))
        for path in paths
    ]
    activations += [
        Activation(t, (*ops,), None, _tokenwise(main, ops, float_makers(main, t))) for t, ops in others.items()
    ]
    return [each for each in activations if each.path or each.makers]


def _float_makers(main: Subgraph, path: SmoothingPath) -> frozenset[int]:
    """Return what is float where an activation with a path is dynamic: a norm, or the product of attention."""
    readers = [leaf.op for leaf in path.leaves]
    if not any(facts_of(main.ops[o].code).weight is not None for o in path.makers):
        return _tokenwise(main, readers, frozenset(path.makers))
    return _tokenwise(main, readers, float_makers(main, path.tensor)) if path.through_attention else frozenset()


def _tokenwise(main: Subgraph, readers: Iterable[int], makers: frozenset[int]) -> frozenset[int]:
    """Return the makers where all readers have a kernel that rounds token by token."""
    return makers if all(main.ops[o].code == "FULLY_CONNECTED" for o in readers) else frozenset()


def _dynamic(variant: Variant, activations: Sequence[Activation]) -> RequestedSpecs:
    """Return the requests with all that reads some activations dynamic, and what makes them in float.

    A norm all of whose readers are dynamic is float, too.
    """
    bent = in_float(variant, [each.makers for each in activations if each.path is None])
    others = in_float(replace(variant, requested=bent), [each.makers for each in activations if each.path], False)
    requested = {**others, **dynamic(others, {o for each in activations for o in each.readers})}
    for path in smoothing_paths(variant.graph).values():
        specs = [requested.get((0, leaf.op)) for leaf in path.leaves]
        is_norm = path.makers and not path.through_attention and known_size(variant.graph, path) is not None
        if activations and is_norm and all(spec is not None and spec.mode == "dynamic" for spec in specs):
            requested |= {(0, o): None for o in path.makers}
    return requested
