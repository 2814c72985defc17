"""Repairs: changes of the float graph, or of ranges, that keep what the model computes and make it easier to quantize.

Which ones a model gets is measured, never guessed by its name: the file with and without is run on some of the samples
(`trial`). Doing nothing is always a candidate. A repair is kept where it brings `BETTER_DB` and more than the standard
error of that gain over the samples; a folded batch norm, which removes operators, where it costs no more than
`BETTER_DB`. Corrected biases cost nothing when the file runs: they are kept for the operators where they help on
samples that they were not fitted to, unless the file is worse on such samples by more than two standard errors or
0.6 dB. What cannot be measured is not kept on. A finished file that is worse than the one without repairs is given up
for that. Where nothing is applicable nothing is run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_converters.operators import data_of, facts_of, weight_axes
from tfq_fine.activations import has_masks, integer_ops
from tfq_fine.algorithms import ALGORITHMS
from tfq_fine.numerics import is_large
from tfq_fine.report import RepairRow
from tfq_fine.search.bias_choice import folds, helped
from tfq_fine.search.judging import gain, mean_decibels
from tfq_fine.search.trial import Asked, Measured, Trial, Variant
from tfq_fine.transforms import (
    Changes,
    Levels,
    Rewritten,
    ScalingPath,
    choose_scales,
    decibels,
    fold_batch_norm,
    powers_of_two,
    scalable,
    scaled,
    tensors_on,
)
from tfq_fine.weights import corrects, corrects_biases

REPAIRS: Mapping[str, str] = {
    "fold_batch_norm": "batch norm after an activation is folded into the weights around it",
    "cross_layer": "channels of an activation are scaled to one range, and the weights that read them divided",
    "bounded_masks": "attention masks reach no further than SOFTMAX can tell",
    "bias_correction": "biases take back what rounded weights do to the mean of the outputs",
    "islands": "operators whose results are hopeless in 8 bits are kept in float, with what feeds them",
}
SCALES_INPUTS = frozenset({"fold_batch_norm", "cross_layer"})
QUICK = 64  # output channels of each operator that estimates look at in a large model
WORTH_DB = 2.0  # estimated gain of equalization over all samples, below which it is not measured
HOPEFUL_DB = 1.0  # estimated gain on a few samples, below which the others are not looked at
BETTER_DB = 0.2  # what is not better by this much is noise
SHOWN, MOST_DB = 2.0, 0.6  # standard errors, and dB: a greater loss is taken to be real
MASKS_DB = 1.0  # what masked scores in integers may cost, for they would be float, and slower, otherwise
FINE_DB = 20.0  # or they may cost anything that leaves so much
EXACT = 1e-5  # how far float outputs may move, to the largest one


@dataclass(frozen=True)
class Repaired:
    """The model with its repairs, and a line on each."""

    variant: Variant
    rows: tuple[RepairRow, ...]


def chosen_repairs(repairs: str | Sequence[str] | None) -> tuple[str, ...]:
    """The names of the repairs that are wanted.

    Raises:
        TfqError: an unknown name.
    """
    if repairs == "auto":
        return tuple(REPAIRS)
    names = (repairs,) if isinstance(repairs, str) else tuple(repairs or ())
    unknown = [name for name in names if name not in REPAIRS]
    if unknown:
        raise TfqError(f"unknown repairs {', '.join(unknown)}; known: {', '.join(REPAIRS)}, or 'auto' for all")
    return names


def repaired(graph: Graph, asked: Asked, names: Sequence[str], trial: Trial) -> Repaired:
    """Decide on every repair.

    Args:
        graph: the float graph.
        asked: what the recipe asks of its operators.
        names: of the repairs that are wanted; the others are off.
        trial: measures variants of the model.
    """
    off = _parting(asked, names)
    decisions = _Decisions(graph, asked, [name for name in names if name not in off], trial)
    decisions.rewrite()
    decisions.masks()
    decisions.biases()
    decisions.finish()
    return Repaired(decisions.best, (*off.values(), *decisions.rows))


def _parting(asked: Asked, names: Sequence[str]) -> dict[str, RepairRow]:
    """The repairs that would scale weights apart whose algorithm keeps equal values equal, and a line on each."""
    if not any(spec and spec.weights and ALGORITHMS[spec.weights.algorithm].keeps_equal for spec in asked.values()):
        return {}
    why = "scaled inputs would part the clusters of weights"
    return {name: RepairRow(name, False, why) for name in names if name in SCALES_INPUTS}


def without_repairs(graph: Graph, asked: Asked, names: Sequence[str], why: str) -> Repaired:
    """The model as it is, with `why` nothing can be measured.

    Masks that are wanted are bounded all the same: what they leave out is nothing that SOFTMAX could tell.
    """
    kept = {"bounded_masks"} & set(names)
    rows = tuple(RepairRow(name, name in kept, f"not measured: {why}" if name in kept else why) for name in names)
    return Repaired(Variant(graph, asked, "bounded_masks" in kept), rows)


class _Decisions:
    """One repair after the other, each on top of those that stay."""

    def __init__(self, graph: Graph, asked: Asked, names: Sequence[str], trial: Trial):
        self.plain = self.best = Variant(graph, asked, False)
        self.rows: list[RepairRow] = []
        self._names, self._trial = names, trial
        if "bounded_masks" in names:
            self.best = replace(self.best, bounded_masks=True)

    def rewrite(self) -> None:
        """Fold batch norm, equalize: each alone and both, as one may need the other."""
        start = self.best
        folded = fold_batch_norm(start.graph) if "fold_batch_norm" in self._names else None
        equalizes = "cross_layer" in self._names
        if folded is not None and not folded.folded:
            why = f"nothing to fold: {folded.kept[0]}" if folded.kept else "nothing to fold"
            self.rows.append(RepairRow("fold_batch_norm", False, why))
        if folded is not None and folded.folded:
            text = f"{len(folded.folded)} folded, such as {folded.folded[0]}"
            after = replace(start, graph=folded.rewritten.graph, asked=_moved(start.asked, folded.rewritten))
            both = self._equalized(after) if equalizes else None
            why = self._not_better(start, after, faster=True)
            if why and both is not None and both.variants:
                why = self._not_better(start, self._best_of(both), faster=True)
            self.rows.append(self._row("fold_batch_norm", text, why, start, after))
            if not why:
                self.best = after
                if both is not None:
                    self._equalize(both)
                return
        if equalizes:
            self._equalize(self._equalized(start))

    def _equalize(self, found: "_Candidates") -> None:
        if not found.variants:
            self.rows.append(RepairRow("cross_layer", False, found.text))
            return
        before, after = self.best, self._best_of(found)
        why = self._not_better(before, after)
        self.best = before if why else after
        self.rows.append(self._row("cross_layer", found.text, why, before, after))

    def _best_of(self, found: "_Candidates") -> Variant:
        return max(found.variants, key=lambda variant: self._measured(variant).db)

    def masks(self) -> None:
        """With ranges cut, or not."""
        if "bounded_masks" not in self._names:
            return
        if not has_masks(self.best.graph) or not integer_ops(self._trial.planned(self.best)[1]):
            self.best = replace(self.best, bounded_masks=False)
            self.rows.append(RepairRow("bounded_masks", False, "no masks in integers"))
            return
        off, on = replace(self.best, bounded_masks=False), self.best
        before, after = self._measured(off), self._measured(on)
        cost = -gain(before.each, after.each)[0]
        why = f"it costs {cost:.1f} dB" if cost > MASKS_DB and after.db < FINE_DB else ""
        self.best = off if why else on
        text = "masks before SOFTMAX; what they are added to would stay float without"
        self.rows.append(self._row("bounded_masks", text, why, off, on))

    def biases(self) -> None:
        """Corrected where that helps on samples that the correction was not fitted to, or not at all."""
        if "bias_correction" not in self._names:
            return
        graph, plan = self._trial.planned(self.best)
        if not corrects_biases(graph, plan):
            self.rows.append(RepairRow("bias_correction", False, "no quantized weights with a bias"))
            return
        each = self._trial.means(self.best)
        apart = folds(self._trial.statistics(self.best), each, self._trial.counts, self._trial.fresh)
        if not apart:
            why = "there are no other samples to judge it on"
            self.rows.append(RepairRow("bias_correction", False, why))
            return
        every = [key for key in helped(self._trial.numbers(self.best).quantized, each, apart) if corrects(plan[key])]
        if not every:
            why = "other samples than those it was fitted to gain nothing"
            self.rows.append(RepairRow("bias_correction", False, why))
            return
        on = replace(self.best, corrected=frozenset(every))
        before = self._measured(self.best)
        after = self._trial.measured_apart(on, [(fold.samples, fold.means) for fold in apart])
        why = after.problem or _worthless(before.each, after.each, free=True)
        text = f"{len(every)} operators with weights and a bias, judged on other samples"
        self.rows.append(self._line("bias_correction", text, why, before, after))
        self.best = self.best if why else on

    def finish(self) -> None:
        """Nothing, where the finished file is worse than the one without any repair."""
        if self.best is self.plain or not any(row.applied for row in self.rows):
            return
        before, after = self._measured(self.plain), self._measured(self.best)
        lost = -gain(before.each, after.each)[0]
        if lost > BETTER_DB and not (self.best.bounded_masks and after.db >= FINE_DB):
            why = f"the finished file has {after.db:.1f} dB, that without repairs {before.db:.1f} dB"
            self.rows = [replace(r, applied=False, text=f"{r.text}; {why}") if r.applied else r for r in self.rows]
            self.best = self.plain

    def _not_better(self, before: Variant, after: Variant, faster: bool = False) -> str:
        """Why `after` is not taken in place of `before`; "" where it is."""
        one, two = self._measured(before), self._measured(after)
        if two.problem:
            return f"its file cannot be run: {two.problem}"
        why = _worthless(one.each, two.each, -BETTER_DB if faster else BETTER_DB)
        if why:
            return why
        moved = self._trial.difference(after.graph)
        return f"the float outputs would move by {moved:.1g} of the largest" if moved > EXACT else ""

    def _measured(self, variant: Variant) -> Measured:
        return self._trial.measured(variant)

    def _row(self, name: str, text: str, why: str, before: Variant, after: Variant) -> RepairRow:
        return self._line(name, text, why, self._measured(before), self._measured(after))

    def _line(self, name: str, text: str, why: str, before: Measured, after: Measured) -> RepairRow:
        said = f"{text}; off: {why}" if why else text
        return RepairRow(name, not why, said, before.db, after.db, len(self._trial.samples))

    def _equalized(self, variant: Variant) -> "_Candidates":
        """The variant with equalized channels, where the estimate says that it pays to measure it.

        A few samples say whether there is hope; the factors come from all of them, so that no channel is scaled up
        because it slept in a few. They are those of the largest values, or of the typical ones.
        """
        levels, paths = _levels(variant), scalable(variant.graph)
        if not levels or not paths:
            return _Candidates("no activation between linear operators whose channels can be scaled exactly")
        graph, rows = variant.graph, QUICK if is_large(variant.graph) else None
        looked_at = _looked_at(graph, levels, paths)
        for all_samples, enough in ((False, HOPEFUL_DB), (True, WORTH_DB)):
            known = self._trial.channels(graph, looked_at, all_samples)
            typical = {t: channels.typical() for t, channels in known.items()}
            found = [choose_scales(graph, channels, levels, rows) for channels in (known, typical)]
            estimates = [decibels(scales.before, scales.after) for scales in found]
            text = f"{len(found[0].changes)} activations, estimated gain {estimates[0]:.1f} dB"
            if max(estimates) < enough:
                return _Candidates(f"{text}: not worth measuring")
        changed = (self._scaled(graph, scales.changes) for scales in found if scales.changes)
        return _Candidates(text, tuple(replace(variant, graph=rewritten) for rewritten in changed))

    def _scaled(self, graph: Graph, changes: Changes) -> Graph:
        """The graph with scaled channels; by powers of two, which round nothing, where other factors move its outputs.

        A network whose decisions are steep may move by more than `EXACT` for nothing but other roundings in float.
        """
        rewritten = scaled(graph, changes)
        moves = self._trial.difference(rewritten) > EXACT
        return scaled(graph, [(path, powers_of_two(scale)) for path, scale in changes]) if moves else rewritten


@dataclass(frozen=True)
class _Candidates:
    text: str
    variants: tuple[Variant, ...] = ()


def _worthless(before: Sequence[float], after: Sequence[float], needed: float = BETTER_DB, free: bool = False) -> str:
    """Why a gain is not enough; "" where it is. What is `free`, and is expected to help, may be within the noise."""
    brings, error = gain(before, after)
    if (brings >= -min(SHOWN * error, MOST_DB)) if free else (brings >= needed and (needed < 0 or brings > error)):
        return ""
    if mean_decibels(after) == float("-inf"):
        return "its outputs are not finite"
    asked = f"no more than {min(SHOWN * error, MOST_DB):.1f} dB may be lost" if free else f"{needed:.1f} are asked for"
    return f"it brings {brings:.1f} dB, with a standard error of {error:.1f}, and {asked}"


def _moved(asked: Asked, rewritten: Rewritten) -> Asked:
    """Return what is asked of the operators of a rewritten main subgraph: what was asked of their origins."""
    others = {key: spec for key, spec in asked.items() if key[0]}
    return {(0, new): asked[0, old] for new, old in enumerate(rewritten.origin)} | others


def _looked_at(graph: Graph, levels: Mapping[int, Levels], paths: Mapping[int, ScalingPath]) -> list[int]:
    """The activations that estimates need."""
    main = graph.main
    read = dict.fromkeys(data_of(main.ops[o]) for o in levels)
    read |= dict.fromkeys(t for path in paths.values() for t in tensors_on(main, path))
    return [t for t in read if t not in main.inputs and not main.tensors[t].is_constant]


def _levels(variant: Variant) -> dict[int, Levels]:
    """Linear operator of the main subgraph -> how finely it is quantized."""
    found = {}
    for (s, o), spec in variant.asked.items():
        op = variant.graph.main.ops[o] if s == 0 else None
        if op is None or facts_of(op.code).weight is None or spec is None or spec.weights is None:
            continue
        if weight_axes(op, variant.graph.main):
            bits = 8 if spec.mode == "dynamic" else spec.activations.bits if spec.activations else 0
            found[o] = Levels(2.0**bits - 1 if bits else float("inf"), 2.0 ** (spec.weights.bits - 1) - 1)
    return found
