"""Repairs: changes of the float graph, or of ranges, that keep what the model computes and make it easier to quantize.

Which ones a model gets is measured, never guessed by its name: it is quantized with and without on a few of the samples
(`trial`), and what lowers the error of the outputs stays. Where nothing is applicable nothing is run; where a cheap
estimate says that little is to be gained, or a model is large, that is not measured either, and the report says so.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_converters.quantized import OpKey
from tfq_converters.weights import data_of, weight_axes
from tfq_fine.algorithms import KEEP_EQUAL
from tfq_fine.encodings import integer_ops
from tfq_fine.equalization.channel_scaling import LINEAR, ScalingPath, scaled
from tfq_fine.equalization.cross_layer import choose_scales, scalable, tensors_on
from tfq_fine.equalization.editing import Rewritten
from tfq_fine.equalization.fold_batch_norm import fold_batch_norm
from tfq_fine.equalization.noise import Levels, decibels
from tfq_fine.masks import has_masks
from tfq_fine.plan import Policy
from tfq_fine.quantizer import corrects_biases
from tfq_fine.report.quantization import RepairRow
from tfq_fine.sampling import Sample
from tfq_fine.sizes import is_large
from tfq_fine.specs import OpSpec
from tfq_fine.trial import Asked, Trial, Variant, planned

REPAIRS: Mapping[str, str] = {
    "fold_batch_norm": "batch norm behind an activation is folded into the weights around it",
    "cross_layer": "channels of an activation are scaled to one range, and the weights that read them divided",
    "bounded_masks": "attention masks reach no further than SOFTMAX can tell",
    "bias_correction": "biases take back what rounded weights do to the mean of the outputs",
}
SCALES_INPUTS = ("fold_batch_norm", "cross_layer")
SAMPLES = 8  # that variants are measured on
SAMPLES_LARGE = 2  # of a large model, where only what changes much is measured
QUICK = 64  # output channels of each operator that estimates look at in a large model
WORTH_DB = 2.0  # estimated gain of equalization, below which it is not measured
BETTER_DB = 0.2  # what is not better by this much is noise
WORSE_DB = 1.0  # what helps nearly always is switched off only where it costs this much
RUINED_DB = 20.0  # less than that is no price for having masked scores in integers
EXACT = 1e-5  # how far float outputs may move, to the largest one


@dataclass(frozen=True)
class Repaired:
    """The model with its repairs, and a line on each."""

    graph: Graph
    asked: Asked
    bounded_masks: bool
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


def number_of_samples(graph: Graph) -> int:
    """How many samples variants of this model are measured on."""
    return SAMPLES_LARGE if is_large(graph) else SAMPLES


def repaired(
    graph: Graph,
    asked: Asked,
    names: Sequence[str],
    policy: Policy,
    no_islands: bool,
    samples: Callable[[], Sequence[Sample]],
    threads: int = 1,
) -> Repaired:
    """Decide on every repair.

    Args:
        graph: the float graph.
        asked: what the recipe asks of its operators.
        names: of the repairs that are wanted; the others are off.
        policy: how the recipe is bent to what kernels can do.
        no_islands: as for `placement.place`.
        samples: reads the first samples of the data; called once, and only where something is to be measured.
        threads: of the interpreter.
    """
    if "bias_correction" not in names:
        asked = _without_bias_correction(asked)
    off = _parting(asked, names)
    names = [name for name in names if name not in off]
    decisions = _Decisions(graph, asked, names, Trial(policy, no_islands, (), threads, graph), samples)
    decisions.rewrite()
    decisions.masks()
    decisions.biases()
    best = decisions.best
    return Repaired(best.graph, best.asked, best.bounded_masks, (*off.values(), *decisions.rows))


def _parting(asked: Asked, names: Sequence[str]) -> dict[str, RepairRow]:
    """The repairs that would scale weights apart whose algorithm keeps equal values equal, and a line on each."""
    if not any(spec and spec.weights and spec.weights.algorithm in KEEP_EQUAL for spec in asked.values()):
        return {}
    why = "scaled inputs would part the clusters of weights"
    return {name: RepairRow(name, False, why) for name in names if name in SCALES_INPUTS}


def without_repairs(graph: Graph, asked: Asked, names: Sequence[str], why: str) -> Repaired:
    """No rewriting; masks and biases as asked for, unmeasured."""
    if "bias_correction" not in names:
        asked = _without_bias_correction(asked)
    kept = {name: f"not measured: {why}" for name in names if name in ("bounded_masks", "bias_correction")}
    rows = tuple(RepairRow(name, name in kept, kept.get(name, why)) for name in names)
    return Repaired(graph, asked, "bounded_masks" in names, rows)


class _Decisions:
    """One repair after the other, each on top of those that stay."""

    def __init__(
        self,
        graph: Graph,
        asked: Asked,
        names: Sequence[str],
        trial: Trial,
        samples: Callable[[], Sequence[Sample]],
    ):
        self.best = Variant(graph, asked, "bounded_masks" in names)
        self.rows: list[RepairRow] = []
        self._names, self._trial, self._read = names, trial, samples
        self._found: dict[int, float] = {}  # id of a variant -> dB
        self._kept: list[Variant] = []  # so that ids stay theirs

    def rewrite(self) -> None:
        """Fold batch norm, equalize: each alone and both, as one may need the other."""
        start = self.best
        folded = fold_batch_norm(start.graph) if "fold_batch_norm" in self._names else None
        equalizes = "cross_layer" in self._names
        if folded is not None and not folded.folded:
            why = f"nothing to fold: {folded.kept[0]}" if folded.kept else "nothing to fold"
            self.rows.append(RepairRow("fold_batch_norm", False, why))
        after = _rewritten(start, folded.rewritten) if folded is not None and folded.folded else None
        if after is not None and folded is not None:
            both = self._equalized(after) if equalizes else None
            candidates = [v for v in (start, after, both.variant if both else None) if v is not None]
            self.best = self._better(candidates)
            applied = self.best is not start
            text = f"{len(folded.folded)} folded, such as {folded.folded[0]}"
            self.rows.append(self._row("fold_batch_norm", applied, text, start, after))
            if both is not None and both.variant is not None and applied:
                self.rows.append(self._row("cross_layer", self.best is both.variant, both.text, after, both.variant))
                return
        if equalizes:
            found = self._equalized(self.best)
            if found.variant is None:
                self.rows.append(RepairRow("cross_layer", False, found.text))
                return
            before, self.best = self.best, self._better([self.best, found.variant])
            self.rows.append(self._row("cross_layer", self.best is found.variant, found.text, before, found.variant))

    def masks(self) -> None:
        """With ranges cut, or not."""
        if "bounded_masks" in self._names:
            if not has_masks(self.best.graph) or not self._is_integer():
                self.rows.append(RepairRow("bounded_masks", False, "no masks in integers"))
                return
            text = "masks in front of SOFTMAX; what they are added to would stay float without"
            self._on_or_off("bounded_masks", replace(self.best, bounded_masks=False), text, RUINED_DB)

    def biases(self) -> None:
        """Corrected, or not."""
        if "bias_correction" in self._names:
            graph, plan = planned(self.best.graph, self.best.asked, self._trial.policy)
            if not corrects_biases(graph, plan):
                self.rows.append(RepairRow("bias_correction", False, "no quantized weights with a bias"))
                return
            off = replace(self.best, asked=_without_bias_correction(self.best.asked))
            self._on_or_off("bias_correction", off, "operators with weights and a bias")

    def _on_or_off(self, name: str, off: Variant, text: str, enough: float = math.inf) -> None:
        """On, unless that costs more than noise; `enough` dB are accurate enough whatever it costs."""
        if is_large(self.best.graph):
            self.rows.append(RepairRow(name, True, f"{text}; not measured on a model of this size"))
            return
        before = self.best
        worse = self._db(before) < enough and self._db(off) > self._db(before) + WORSE_DB
        self.best = off if worse else before
        self.rows.append(self._row(name, self.best is before, text, off, before))

    def _is_integer(self) -> bool:
        return bool(integer_ops(planned(self.best.graph, self.best.asked, self._trial.policy)[1]))

    def _better(self, variants: Sequence[Variant]) -> Variant:
        """The one with the smallest error; the first where others are not better by more than noise.

        A folded graph is faster, so that it is enough if it is not worse.
        """
        best = variants[0]
        for variant in variants[1:]:
            fewer = len(variant.graph.main.ops) < len(best.graph.main.ops)
            needed = -BETTER_DB if fewer else BETTER_DB
            if self._db(variant) > self._db(best) + needed and self._is_exact(variant):
                best = variant
        return best

    def _is_exact(self, variant: Variant) -> bool:
        return self._trial.difference(variant.graph) <= EXACT

    def _db(self, variant: Variant) -> float:
        self._load()
        if id(variant) not in self._found:
            self._found[id(variant)] = self._measured(variant)
            self._kept.append(variant)
        return self._found[id(variant)]

    def _measured(self, variant: Variant) -> float:
        try:
            return self._trial.sqnr(variant)
        except TfqError:  # whatever it is, the file itself will show it
            return -math.inf

    def _load(self) -> None:
        """Read the samples when they are first needed."""
        if not self._trial.samples:
            self._trial.samples = self._read()

    def _row(self, name: str, applied: bool, text: str, before: Variant, after: Variant) -> RepairRow:
        return RepairRow(name, applied, text, self._db(before), self._db(after), len(self._trial.samples))

    def _equalized(self, variant: Variant) -> "_Candidate":
        """The variant with equalized channels, where the estimate says that it pays to measure it."""
        levels, paths = _levels(variant), scalable(variant.graph)
        if not levels or not paths:
            return _Candidate(None, "no activation between linear operators whose channels can be scaled exactly")
        self._load()
        known = self._trial.channels(variant.graph, _looked_at(variant.graph, levels, paths))
        found = choose_scales(variant.graph, known, levels, QUICK if is_large(variant.graph) else None)
        gain = decibels(found.before, found.after)
        where = f"{len(found.changes)} activations, estimated gain {gain:.1f} dB"
        if gain < WORTH_DB:
            return _Candidate(None, f"{where}: not worth measuring")
        equalized = scaled(variant.graph, found.changes)
        return _Candidate(_rewritten(variant, Rewritten.nothing(equalized)), where)


@dataclass(frozen=True)
class _Candidate:
    variant: Variant | None
    text: str


def _rewritten(variant: Variant, rewritten: Rewritten) -> Variant:
    """The variant with the main subgraph rewritten; its operators are asked what they were."""
    others = {key: spec for key, spec in variant.asked.items() if key[0]}
    asked = {(0, new): variant.asked[0, old] for new, old in enumerate(rewritten.origin)}
    return replace(variant, graph=rewritten.graph, asked=asked | others)


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
        if op is None or op.code not in LINEAR or spec is None or spec.weights is None:
            continue
        if weight_axes(op, variant.graph.main):
            bits = 8 if spec.mode == "dynamic" else spec.activations.bits if spec.activations else 0
            found[o] = Levels(2.0**bits - 1 if bits else float("inf"), 2.0 ** (spec.weights.bits - 1) - 1)
    return found


def _without_bias_correction(asked: Asked) -> dict[OpKey, OpSpec | None]:
    return {
        key: spec
        if spec is None or spec.weights is None
        else replace(spec, weights=replace(spec.weights, bias_correction=False))
        for key, spec in asked.items()
    }
