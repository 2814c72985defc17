"""Operators whose results are hopeless in 8 bits are computed in float, or in 16 bits, where that mends the model.

A logarithm of a power spectrum, one scale for embeddings and counts, a divisor close to 0: there 8 bits leave nothing
of what later operators need. Which operators those are is seen in the file: the values that it holds are compared with
the float model's, and an operator that reads good values and gives bad ones is a suspect. Float arithmetic in it alone
is seldom enough, since what feeds it was rounded before. So its island grows by what feeds it, one step at a time, as
long as that helps its result, and the smallest island that does stays, if the outputs of the model are better for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph, Subgraph
from tfq_fine.judging import gain
from tfq_fine.placement import Island
from tfq_fine.plan import Plan
from tfq_fine.trial import Trial, Variant

GOOD_DB = 25.0  # of the outputs: files as good as this are left alone; and of a result, that needs no larger island
BAD_DB = 15.0  # of a result: below, nothing much can be made of it
LOST_DB = 8.0  # between the worst input and the result: an operator that loses less hands on what was bad before
WORTH_DB = 1.0  # that an island must bring, to a result to grow, and to the outputs to stay
LONGEST = 12  # steps that an island grows
MOST = 6  # islands


@dataclass(frozen=True)
class Mended:
    """A variant with its islands, and what was seen on the way."""

    variant: Variant
    before: float  # dB of the outputs
    after: float
    names: tuple[str, ...] = ()  # of the operators that were hopeless


def mended(variant: Variant, trial: Trial) -> Mended:
    """The variant with islands where they make its outputs better; the variant itself where they do not."""
    start = trial.measured(variant)
    nothing = Mended(variant, start.db, start.db)
    if start.problem or start.db >= GOOD_DB:
        return nothing
    bits = 16 if trial.settings.policy.target.compiles else None
    best, tried, names = variant, set[int](), list[str]()
    try:
        for _ in range(MOST):
            if trial.measured(best).db >= GOOD_DB:
                break
            graph, plan = _current(best, trial)
            errors = trial.tensors(best)
            suspect = next((o for o in suspects(graph.main, plan, errors) if o not in tried), None)
            if suspect is None:
                break
            tried.add(suspect)
            grown = _grown(best, trial, graph, plan, suspect, errors, bits)
            if grown is not None:
                best = grown
                names.append(graph.main.op_name(suspect))
    except TfqError:  # a file with an island cannot be run: the one without is there
        pass
    if best is variant:
        return nothing
    end = trial.measured(best)
    brings, error = gain(start.each, end.each)
    if end.problem or brings < WORTH_DB or brings <= error:
        return nothing
    return Mended(best, start.db, end.db, tuple(names))


def _current(variant: Variant, trial: Trial) -> tuple[Graph, Plan]:
    numbers = trial.numbers(variant)
    return numbers.quantized.graph, numbers.plan


def suspects(main: Subgraph, plan: Plan, errors: Mapping[int, float]) -> list[int]:
    """The quantized operators that read good values and give bad ones, the greatest loss first."""
    lost = {}
    for o, op in enumerate(main.ops):
        results = [errors[t] for t in op.outputs if t in errors]
        if not results or not is_rounded(plan, o) or min(results) >= BAD_DB:
            continue
        read = [errors[t] for t in op.inputs if t in errors]
        loss = min(read, default=float("inf")) - min(results)
        if not loss < LOST_DB:  # also where both are -inf, which tells nothing
            lost[o] = loss
    return sorted(lost, key=lambda o: -lost[o])


def is_rounded(plan: Plan, o: int) -> bool:
    """Whether operator `o` of the main subgraph rounds its activations."""
    spec = plan[0, o].spec
    return spec is not None and spec.mode in ("integer", "dynamic")


def _grown(
    variant: Variant,
    trial: Trial,
    graph: Graph,
    plan: Plan,
    suspect: int,
    errors: Mapping[int, float],
    bits: int | None,
) -> Variant | None:
    """The variant with the smallest island around `suspect` that mends its result; None where none does."""
    main = graph.main
    result = min(main.ops[suspect].outputs, key=lambda t: errors.get(t, float("inf")))
    island, found = {suspect}, list[tuple[float, Variant]]()
    for _ in range(LONGEST):
        found.append(_with_island(variant, trial, main, island, suspect, errors[result], result, bits))
        if found[-1][0] >= GOOD_DB:
            break
        larger = island | _feeding(main, plan, island)
        if larger == island:
            break
        island = larger
    most = max(db for db, _ in found)
    if not most >= errors[result] + WORTH_DB:
        return None
    return next(candidate for db, candidate in found if db >= most - WORTH_DB)


def _with_island(
    variant: Variant,
    trial: Trial,
    main: Subgraph,
    island: set[int],
    suspect: int,
    before: float,
    result: int,
    bits: int | None,
) -> tuple[float, Variant]:
    """(SQNR in dB of `result` with the island, the variant that has it)."""
    kind = "float" if bits is None else f"{bits} bits"
    own = f"in 8 bits its result has {before:.1f} dB on the samples, so that it is kept in {kind}"
    feeds = f"it feeds {main.op_name(suspect)}, whose result has {before:.1f} dB in 8 bits"
    islands = {o: Island(own if o == suspect else feeds, bits) for o in island}
    candidate = replace(variant, islands={**islands, **variant.islands})
    return trial.tensors(candidate).get(result, float("-inf")), candidate


def _feeding(main: Subgraph, plan: Plan, island: set[int]) -> set[int]:
    """The quantized operators that compute what the island reads."""
    producers = main.producers()
    makers = {producers[t] for o in island for t in main.ops[o].inputs if t in producers}
    return {o for o in makers if is_rounded(plan, o)}
