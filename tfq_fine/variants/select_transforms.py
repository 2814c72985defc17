"""The choice of transforms: each is kept where the file that it gives is measured to be better.

Transforms change the float graph, or ranges, keep what the model computes, and make it easier to quantize. Which ones a
model gets is measured, never guessed by its name: the file with and without is run on some of the samples (`trial`).
Doing nothing is always a candidate. A transform is kept where it brings `BETTER_DB` and more than the standard error of
that gain over the samples; a folded batch norm, which removes operators, where it costs no more than `BETTER_DB`.
Corrected biases cost nothing when the file runs: they are kept for the operators where they help on samples that they
were not fitted to, unless the file is worse on such samples by more than two standard errors or 0.6 dB. What cannot be
measured is not kept on. A finished file that is worse than the one without transforms is given up for that. Where
nothing is applicable nothing is run.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, IdentityCache
from tfq_fine.algorithms import algorithm_of
from tfq_fine.report import TransformRow
from tfq_fine.request import OwnName, as_name
from tfq_fine.variants.judging import Measured, gain, mean_decibels
from tfq_fine.variants.own_transform import known_transform, row_of_transform
from tfq_fine.variants.proposals import EXACT
from tfq_fine.variants.transform import BETTER_DB, Proposal, Transform
from tfq_fine.variants.transform_table import FINE_DB, TRANSFORMS
from tfq_fine.variants.trial import Trial
from tfq_fine.variants.variant import RequestedSpecs, Variant

SHOWN, MOST_DB = 2.0, 0.6  # standard errors, and dB: a greater loss is taken to be real


@dataclass(frozen=True)
class Selection:
    """The model with its transforms, and a line on each."""

    variant: Variant
    rows: tuple[TransformRow, ...]


def chosen_transforms(transforms: Any, by_recipe: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names of the requested transforms.

    Args:
        transforms: some by name, or as objects (`own_transform`); "auto" for the default ones and those of
            the recipe, also among others; None for none.
        by_recipe: the names that the recipe has.

    Raises:
        TfqError: an unknown name.
    """
    entries = (transforms,) if isinstance(transforms, str) or callable(transforms) else tuple(transforms or ())
    automatic = "auto" in entries
    names = tuple(
        as_name(each, "transforms") for each in (*entries, *(by_recipe if automatic else ())) if each != "auto"
    )
    unknown = [name for name in names if row_of_transform(name) is None]
    if unknown:
        raise TfqError(
            f"unknown transforms {', '.join(unknown)}; known: {', '.join(TRANSFORMS)}, or 'auto' for the default ones"
        )
    if automatic:
        automatic_names = [name for name, transform in TRANSFORMS.items() if transform.default or name in names]
        return (*automatic_names, *(name for name in dict.fromkeys(names) if isinstance(name, OwnName)))
    return names


def rewriting(names: Iterable[str]) -> list[str]:
    """Return the transforms among `names` that rewrite the graph, so that the data is read again for its ranges."""
    return [name for name in names if known_transform(name).rewrites]


def untransformed(graph: Graph, requested: RequestedSpecs, names: Sequence[str], why: str) -> Selection:
    """Return the model unchanged, with `why` nothing can be measured.

    Masks are bounded all the same where that is requested: what is left out is nothing that SOFTMAX could tell.
    """
    kept = {"bounded_masks"} & set(names)
    rows = tuple(
        TransformRow(str(name), name in kept, f"not measured: {why}" if name in kept else why) for name in names
    )
    return Selection(Variant(graph, requested, "bounded_masks" in kept), rows)


def transformed(graph: Graph, requested: RequestedSpecs, names: Sequence[str], trial: Trial) -> Selection:
    """Decide on every transform, each on top of those that stay.

    Args:
        graph: the float graph.
        requested: what the recipe requests of its operators.
        names: the requested transforms; the others are off.
        trial: measures variants of the model.
    """
    off = _parting(requested, names)
    chosen = {
        name: known_transform(name)
        for name in (*TRANSFORMS, *(name for name in names if isinstance(name, OwnName)))
        if name in names and name not in off
    }
    plain = best = Variant(graph, requested, False)
    for transform in chosen.values():
        best = transform.assumed(best)
    proposals = _Proposals(trial)
    rows: list[TransformRow] = []
    for is_last in (False, True):
        if is_last:
            best, rows = _given_up(plain, best, rows, trial)
        for name, transform in chosen.items():
            if transform.is_last == is_last:
                best, row = _decided(name, best, proposals, transform.then in chosen)
                rows.append(row)
    return Selection(best, (*off.values(), *rows))


class _Proposals:
    """The proposals of transforms for variants, each made once."""

    def __init__(self, trial: Trial):
        self.trial = trial
        self._made = IdentityCache()

    def of(self, name: str, variant: Variant) -> Proposal:
        """Return what a transform makes of a variant."""
        return self._made.once(lambda: known_transform(name).propose(variant, self.trial), variant, key=name)

    def best_of(self, proposal: Proposal) -> Variant:
        """Return the variant of a proposal whose file is best."""
        if len(proposal.variants) == 1:
            return proposal.variants[0]
        return max(proposal.variants, key=lambda variant: self.trial.measured(variant).db)


def _decided(name: str, best: Variant, proposals: _Proposals, tries_next: bool) -> tuple[Variant, TransformRow]:
    """Return (the variant with the transform where it is kept, a line on it)."""
    transform, proposal, trial = known_transform(name), proposals.of(name, best), proposals.trial
    start = proposal.before or best
    if proposal.row is not None:
        return (proposal.variants[0] if proposal.row.applied else start), proposal.row
    if not proposal.variants:
        return start, TransformRow(str(name), False, proposal.text)
    after = proposals.best_of(proposal)
    measured = proposal.measured or trial.measured(after)
    why = _why_not(transform, trial, start, after, measured)
    if why and tries_next:
        both = proposals.of(transform.then, after)
        if both.variants:
            on_top = proposals.best_of(both)
            why = _why_not(transform, trial, start, on_top, trial.measured(on_top))
    text = f"{proposal.text}; off: {why}" if why else proposal.text
    row = TransformRow(str(name), not why, text, trial.measured(start).db, measured.db, len(trial.samples))
    return (start if why else after), row


def _why_not(transform: Transform, trial: Trial, before: Variant, after: Variant, measured: Measured) -> str:
    """Say why `after` is not taken in place of `before`; "" where it is."""
    if measured.problem:
        return f"its file cannot be run: {measured.problem}"
    if measured.db >= transform.enough_db:
        return ""
    why = _worthless(trial.measured(before).each, measured.each, transform)
    if why or not transform.rewrites:
        return why
    moved = trial.reference.difference(after.graph)
    return f"the float outputs would move by {moved:.1g} of the largest" if not moved <= EXACT else ""


def _worthless(before: Sequence[float], after: Sequence[float], transform: Transform) -> str:
    """Say why a gain is not enough; "" where it is."""
    brings, error = gain(before, after)
    needed, allowed = transform.min_gain_db, min(SHOWN * error, MOST_DB)
    if brings >= -allowed if transform.within_noise else brings >= needed and (needed < 0 or brings > error):
        return ""
    if mean_decibels(after) == float("-inf"):
        return "its outputs are not finite"
    requested = f"no more than {allowed:.1f} dB may be lost" if transform.within_noise else f"{needed:.1f} are needed"
    return f"it brings {brings:.1f} dB, with a standard error of {error:.1f}, and {requested}"


def _given_up(
    plain: Variant, best: Variant, rows: list[TransformRow], trial: Trial
) -> tuple[Variant, list[TransformRow]]:
    """Return the variant without any transform where the finished file is worse than that."""
    if not any(row.applied for row in rows):
        return best, rows
    before, after = trial.measured(plain), trial.measured(best)
    lost = -gain(before.each, after.each)[0]
    if not lost > BETTER_DB or (best.bounded_masks and after.db >= FINE_DB):
        return best, rows
    why = f"the finished file has {after.db:.1f} dB, that without transforms {before.db:.1f} dB"
    return plain, [replace(r, applied=False, text=f"{r.text}; {why}") if r.applied else r for r in rows]


def _parting(requested: RequestedSpecs, names: Sequence[str]) -> dict[str, TransformRow]:
    """Return a line on each transform that would scale weights apart whose algorithm keeps equal values equal."""
    if not any(spec and spec.weights and algorithm_of(spec.weights).keeps_equal for spec in requested.values()):
        return {}
    why = "scaled inputs would part the clusters of weights"
    return {name: TransformRow(str(name), False, why) for name in rewriting(names)}
