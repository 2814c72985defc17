"""Operators whose results are hopeless in 8 bits are computed in float, or in 16 bits, where that mends the model.

A logarithm of a power spectrum, one scale for embeddings and counts, a divisor close to 0: there 8 bits leave nothing
of what later operators need. Which operators those are is seen in the file: the values that it holds are compared with
the float model's, and an operator that reads good values and gives bad ones is a suspect. Float arithmetic in it alone
is seldom enough, since what feeds it was rounded before. So its island grows by what feeds it, one step at a time, as
long as that helps its result, and the smallest island that does stays, if the outputs of the model are better for it.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from tfq_converters.errors import TfqError
from tfq_converters.graph import Subgraph
from tfq_fine.judging import gain
from tfq_fine.placement import Island
from tfq_fine.plan import Plan
from tfq_fine.report.quantization import RepairRow
from tfq_fine.trial import Trial, Variant

GOOD_DB = 25.0  # of the outputs: files as good as this are left alone; and of a result, that needs no larger island
BAD_DB = 15.0  # of a result: below, nothing much can be made of it
LOST_DB = 8.0  # between the worst input and the result: an operator that loses less hands on what was bad before
WORTH_DB = 1.0  # that an island must bring, to a result to grow, and to the outputs to stay
LONGEST = 12  # steps that an island grows
MOST = 6  # islands


def mended(variant: Variant, trial: Trial) -> tuple[Variant, RepairRow]:
    """(The variant with islands where they make its outputs better, else the variant itself; what was done)."""
    start = trial.measured(variant)
    if start.problem:
        return variant, RepairRow("islands", False, f"the file without them cannot be run: {start.problem}")
    if start.db >= GOOD_DB:
        return variant, RepairRow("islands", False, f"the outputs have {start.db:.1f} dB, {GOOD_DB:.0f} are enough")
    bits = 16 if trial.settings.policy.target.compiles else None
    best, tried, names = variant, set[int](), list[str]()
    with suppress(TfqError):  # a file with an island cannot be run: the one without is there
        while len(names) < MOST and trial.measured(best).db < GOOD_DB:
            numbers = trial.numbers(best)
            main, errors = numbers.quantized.graph.main, trial.tensors(best)
            suspect = next((o for o in suspects(main, numbers.plan, errors) if o not in tried), None)
            if suspect is None:
                break
            tried.add(suspect)
            grown = _grown(best, trial, main, numbers.plan, suspect, errors, bits)
            if grown is not None:
                best = grown
                names.append(main.op_name(suspect))
    if best is variant:
        why = "no operator reads good values and gives bad ones" if not tried else "none mends what is bad"
        return variant, RepairRow("islands", False, why)
    end = trial.measured(best)
    brings, error = gain(start.each, end.each)
    text = f"around {', '.join(names)}"
    why = end.problem or (f"off: it brings {brings:.1f} dB" if brings < WORTH_DB or brings <= error else "")
    row = RepairRow("islands", not why, f"{text}; {why}" if why else text, start.db, end.db, len(trial.samples))
    return variant if why else best, row


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
    """Whether operator `o` of the main subgraph rounds its activations; who asks for few bits in weights gets them."""
    spec = plan[0, o].spec
    if spec is None or spec.mode not in ("integer", "dynamic"):
        return False
    return spec.weights is None or spec.activations is None or spec.weights.stored_bits == 8


def _grown(
    variant: Variant,
    trial: Trial,
    main: Subgraph,
    plan: Plan,
    suspect: int,
    errors: Mapping[int, float],
    bits: int | None,
) -> Variant | None:
    """The variant with the smallest island around `suspect` that mends its result; None where none does."""
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
