"""Operators whose results are far off in 8 bits are computed in float, where that improves the outputs.

Where outputs are off though no operator is hopeless, as many parts as needed are computed in float (`float_parts`).

A logarithm of a power spectrum, one scale for embeddings and counts, a divisor close to 0: there 8 bits leave nothing
of what later operators need. Which operators those are is seen in the file: the values that it holds are compared with
the float model's, and an operator that reads good values and gives bad ones is a suspect. Float arithmetic in it alone
is seldom enough, since what feeds it was rounded before. So its island grows by what feeds it, one step at a time, as
long as that helps its result, and the smallest island that does stays, if the outputs of the model are better for it.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import replace

from tfq_converters.errors import TfqError
from tfq_converters.graph import Subgraph
from tfq_converters.operators import facts_of
from tfq_fine.placement import running_time
from tfq_fine.planning import Decision, Plan
from tfq_fine.report import TransformRow
from tfq_fine.request import IntegerSpec
from tfq_fine.variants.float_parts import Aim, Search, parts
from tfq_fine.variants.judging import CLASSES, Measured, gain
from tfq_fine.variants.trial import Trial
from tfq_fine.variants.variant import Variant
from tfq_fine.weights import fits_weights

POOR_DB, LOW_DB = 20.0, 10.0  # SQNR of the outputs, mean and in nine of ten samples: better files are left unchanged
# Outputs other than classes: files better than the one are left unchanged, and islands are looked for that reach the
# other, since new samples are up to half as bad again as those that the ranges come from.
OFF_POINTS, AIM_POINTS = 0.5, 0.35
SLOWEST = 1.0  # share of the time that all of it takes in float
GOOD_DB = 25.0  # SQNR of a result inside: it needs no larger island
LOST_DB = 8.0  # between the worst input and the result: an operator that loses less hands on what was bad before
GROWS_DB = 1.0  # that a step must bring to the result of the suspect
WORTH_DB = 3.0  # that islands must bring to the outputs, since they cost time
PATIENCE = 8  # steps that an island grows without bringing that
NAMED = 3  # operators, in the report's line
NEEDLESS_DB = 0.3  # what the outputs may lose where an island is given up again
TRIES = 32  # files that are looked at, in each order
WORST, EARLIEST = "worst", "earliest"


def mended(variant: Variant, trial: Trial) -> tuple[Variant, TransformRow]:
    """Return (the variant with islands where they improve its outputs, else the variant itself; what was done)."""
    plan = trial.planned(variant)[1]
    if not plan.integer_ops and fits_weights(plan):
        return variant, TransformRow("islands", False, "no activations in integers, and weights are fitted afterwards")
    start = trial.measured(variant)
    if start.problem:
        return variant, TransformRow("islands", False, f"the file without them cannot be run: {start.problem}")
    if not is_poor(start) and not is_off(start):
        return variant, TransformRow("islands", False, f"{said(start)}: that is enough")
    if trial.settings.policy.target.compiles:
        return variant, TransformRow("islands", False, f"{said(start)}, but a compiler takes no float operators")
    if not is_poor(start) and trial.settings.no_islands:
        return variant, TransformRow("islands", False, f"{said(start)}, but the file's borders are integers")
    steep = any(facts_of(op.code).steep for op in trial.planned(variant)[0].main.ops)
    # where decisions and values are off, noise mostly comes from all over, unless there are steep functions
    ways = [_with_parts, _with_suspects] if is_off(start) and not steep else [_with_suspects, _with_parts]
    best, why = None, ""
    for way in ways if is_poor(start) else [_with_parts]:
        candidate, text = way(variant, trial)
        if candidate is not None or best is None:
            best, why = candidate, text
        if best is not None and _is_good(trial.measured(best)):
            break
    if best is None:
        return variant, TransformRow("islands", False, f"{said(start)}; {why}")
    main = trial.planned(best)[0].main
    added = sorted(set(best.islands) - set(variant.islands))
    names = [main.op_name(o) for o in added]
    end = trial.measured(best)
    text = f"{len(names)} operators, such as {', '.join(names[:NAMED])}; {said(start)} without, {said(end)} with"
    refused = worthless(start, end)
    if refused:
        return variant, TransformRow("islands", False, f"{text}; off: {refused}")
    return best, TransformRow("islands", True, f"{text}; {why}", start.db, end.db, len(trial.samples))


def worthless(start: Measured, end: Measured) -> str:
    """Say why a file with islands is not worth the time that they cost; "" where it is.

    They mend outputs that were farther off than a user would like, or bring `WORTH_DB`.
    """
    brings, error = gain(start.each, end.each)
    mends = is_off(start) and not is_off(end)
    if end.problem or mends or (brings >= WORTH_DB and brings > error):
        return end.problem
    return f"it brings {brings:.1f} dB"


def said(measured: Measured) -> str:
    """Return how good a file is, in words."""
    points = max(_points(measured), default=None)
    return f"the outputs have {measured.db:.1f} dB" + ("" if points is None else f" and are {points:.2f} points off")


def _with_parts(variant: Variant, trial: Trial) -> tuple[Variant | None, str]:
    """Return (the variant with enough parts in float for good outputs; how fast it is, or why there is none)."""
    start, numbers = trial.measured(variant), trial.numbers(variant)
    graph, plan, policy = numbers.quantized.graph, numbers.plan, trial.settings.policy
    requested = trial.planned(variant)[1]  # what is float for speed has weights of 8 bits
    ops = [o for o in range(len(graph.main.ops)) if is_rounded(requested, o)]
    if 8 not in plan.integer_ops.values():
        return None, "no operator computes in 8-bit integers"
    table = policy.target.table
    in_float = running_time(graph, Plan(dict.fromkeys(plan, Decision(None))), table)
    longest = max(SLOWEST * in_float, running_time(graph, plan, table))
    aim = Aim(_is_good, _badness, longest)
    reason = f"{said(start)} on the samples as it was rounded, so that this part is fed float values"
    pieces = parts(graph.main, ops)
    search = Search(trial, variant, aim, reason, "dynamic")
    best = search.quickest(pieces)
    if best is None and policy.prefer == "speed":
        whole = search.with_float(frozenset(ops))
        exact = f"{said(whole.measured)} on the samples with all weights in 8 bits, so that these stay unchanged"
        if not whole.measured.problem:
            best = Search(trial, whole.variant, aim, exact, "precise").quickest(pieces)
    if best is None:
        return None, "no parts in float mend that in less time than all of it in float"
    share = f"estimated time {search.start.time / in_float:.0%} of float without, {best.time / in_float:.0%} with"
    return best.variant, share


def _points(measured: Measured) -> list[float]:
    """Return how far the outputs are off; classes, which labels judge better, are left out."""
    return [output.points for output in measured.apart if output.use != CLASSES]


def _is_good(measured: Measured) -> bool:
    """Return whether a file needs no more islands."""
    return not measured.problem and not is_poor(measured) and max(_points(measured), default=0.0) <= AIM_POINTS


def _badness(measured: Measured) -> float:
    """Sum of the squares of errors, each to what is enough; that of independent errors adds up."""
    if measured.problem:
        return float("inf")
    return sum((points / AIM_POINTS) ** 2 for points in _points(measured)) + 10 ** ((POOR_DB - measured.db) / 10)


def _with_suspects(variant: Variant, trial: Trial) -> tuple[Variant | None, str]:
    """Return (the variant with islands around operators that are hopeless, or None; why)."""
    best, tried = variant, 0
    for first in (WORST, EARLIEST):
        search = _Search(trial, first)
        mended_variant = search.mended(variant)
        tried += search.tries
        if trial.measured(mended_variant).db > trial.measured(best).db:
            best = mended_variant
        if not is_poor(trial.measured(best)):
            break
    if best is variant:
        return None, "no island mends what is bad" if tried else "no operator reads good values and gives bad ones"
    return best, "operators that read good values and gave bad ones, and what feeds them"


def _without_needless(variant: Variant, found: Sequence[frozenset[int]], trial: Trial) -> Variant:
    """Return the variant without those of its islands that bring the outputs nothing, the last ones first."""
    for ops in reversed(found):
        left = {o: island for o, island in variant.islands.items() if o not in ops}
        fewer = replace(variant, islands=left)
        if trial.measured(fewer).db >= trial.measured(variant).db - NEEDLESS_DB:
            variant = fewer
    return variant


def is_poor(found: Measured) -> bool:
    """Return whether a file is bad enough that operators in it may be hopeless."""
    return found.db < POOR_DB or found.low < LOW_DB


def is_off(measured: Measured) -> bool:
    """Return whether the outputs are farther off than a user of them would like."""
    return max(_points(measured), default=0.0) > OFF_POINTS


def suspects(main: Subgraph, plan: Plan, errors: Mapping[int, float]) -> dict[int, float]:
    """Return operators with good inputs and bad outputs, which round or read what was rounded -> the loss in dB."""
    losses = {}
    for o, op in enumerate(main.ops):
        results = [errors[t] for t in op.outputs if t in errors]
        if not results or min(results) >= GOOD_DB or not (is_rounded(plan, o) or feeding(main, plan, {o})):
            continue
        loss = min((errors[t] for t in op.inputs if t in errors), default=float("inf")) - min(results)
        if loss >= LOST_DB:  # not where both are -inf, which tells nothing
            losses[o] = loss
    return losses


def is_rounded(plan: Plan, o: int) -> bool:
    """Return whether main-graph operator `o` rounds its activations; not if its weights are below 8 bits."""
    spec = plan[0, o].spec
    if isinstance(spec, IntegerSpec):
        return spec.weights.stored_bits == 8
    return spec is not None and spec.mode == "dynamic"


def feeding(main: Subgraph, plan: Plan, island: AbstractSet[int]) -> set[int]:
    """Return the nearest operators before the island that round activations, and the movers between."""
    producers, visited = main.producers(), set(island)
    open_tensors = [t for o in island for t in main.ops[o].inputs]
    feeders = set()
    while open_tensors:
        o = producers.get(open_tensors.pop())
        if o is None or o in visited:
            continue
        visited.add(o)
        if is_rounded(plan, o):
            feeders.add(o)
        if o not in feeders or facts_of(main.ops[o].code).within_input:
            open_tensors += main.ops[o].inputs
    return feeders


class _Search:
    """Islands that are tried, one file each.

    Args:
        trial: measures variants.
        first: which suspect is looked at first, `WORST` or `EARLIEST`. A logarithm shows best what it needs before it;
            where many operators lose something, what is lost early is missing in all that follows.
    """

    def __init__(self, trial: Trial, first: str):
        self._trial, self._first, self.tries = trial, first, 0

    def mended(self, variant: Variant) -> Variant:
        """Return the variant with islands that mend what is bad in its file, and bring its outputs something."""
        best, tried, islands = variant, set[int](), list[frozenset[int]]()
        with suppress(TfqError):  # a file with an island cannot be run: the one without is there
            while self.tries < TRIES and is_poor(self._trial.measured(best)):
                numbers = self._trial.numbers(best)
                main, errors = numbers.quantized.graph.main, self._trial.tensors(best)
                suspect = self._next(suspects(main, numbers.plan, errors), tried)
                if suspect is None:
                    break
                tried.add(suspect)
                grown = self.grown(best, main, numbers.plan, suspect, errors)
                if grown is not None:
                    islands.append(frozenset(grown.islands) - frozenset(best.islands))
                    best = grown
        return _without_needless(best, islands, self._trial)

    def _next(self, lost: Mapping[int, float], tried: AbstractSet[int]) -> int | None:
        left = [o for o in lost if o not in tried]
        return min(left, key=lambda o: (-lost[o], o) if self._first == WORST else (o, o), default=None)

    def grown(
        self, variant: Variant, main: Subgraph, plan: Plan, suspect: int, errors: Mapping[int, float]
    ) -> Variant | None:
        """Return the variant with the smallest island around `suspect` that mends its result; None where none does."""
        result = min(main.ops[suspect].outputs, key=lambda t: errors.get(t, float("inf")))
        before = errors[result]
        island = {suspect} if is_rounded(plan, suspect) else feeding(main, plan, {suspect})
        candidates: list[tuple[float, Variant]] = []
        while self.tries < TRIES:
            candidates.append(self._with_island(variant, main, island, suspect, before, result))
            recent, earlier = candidates[-PATIENCE:], candidates[:-PATIENCE]
            stuck = earlier and max(db for db, _ in recent) < max(db for db, _ in earlier) + GROWS_DB
            larger = island | feeding(main, plan, island)
            if candidates[-1][0] >= GOOD_DB or stuck or larger == island:
                break
            island = larger
        most = max((db for db, _ in candidates), default=float("-inf"))
        if not most >= before + GROWS_DB:
            return None
        return next(candidate for db, candidate in candidates if db >= most - GROWS_DB)

    def _with_island(
        self, variant: Variant, main: Subgraph, island: AbstractSet[int], suspect: int, before: float, result: int
    ) -> tuple[float, Variant]:
        """Return (SQNR in dB of `result` with the island, the variant that has it)."""
        self.tries += 1
        own = f"its result has {before:.1f} dB on the samples as it was rounded, so that it is kept in float"
        feeds = f"it feeds {main.op_name(suspect)}, whose result has {before:.1f} dB on the samples as it was rounded"
        islands = {o: own if o == suspect else feeds for o in island}
        corrected = variant.corrected - {(0, o) for o in island}  # a bias that is moved may take a logarithm below 0
        candidate = replace(variant, islands={**islands, **variant.islands}, corrected=corrected)
        return self._trial.tensors(candidate).get(result, float("-inf")), candidate
