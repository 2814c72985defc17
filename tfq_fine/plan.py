"""From what a recipe asks to what every operator gets: a decision per operator, with the reason where it gets less."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from tfq_converters import kernels
from tfq_converters.errors import raise_all
from tfq_converters.graph import ABSENT, Graph, Op, Subgraph
from tfq_converters.kernels import Fineness, Target, form_of
from tfq_converters.operators import OPS, facts_of, float_constants, is_pointwise, lstm, weight_axes
from tfq_converters.quantized import Form, Mode, OpKey
from tfq_converters.realize import REWRITES
from tfq_converters.runtime import depends_on_unrunnable
from tfq_fine.algorithms import ALGORITHMS, algorithm_problems, has_statistics
from tfq_fine.granularity import Blocks, Granularity, PerChannel, PerTensor
from tfq_fine.indices import index_movers
from tfq_fine.observers import observer_problems
from tfq_fine.specs import GRANULARITIES, ActivationSpec, OpSpec, WeightSpec

Prefer = Literal["speed", "size"]
OnUnsupported = Literal["error", "fallback"]
_OTHER_MODES: tuple[Mode, ...] = ("dynamic", "weight_only")
HALF_MINIMUM = 1024  # constants of fewer elements are not worth a DEQUANTIZE
SCALE_BYTES, DEQUANTIZE_BYTES = 12, 256  # of a scale and its zero point; of an operator, its result and a name


@dataclass(frozen=True)
class Decision:
    """What one operator gets (None: it computes in float, over float constants), and why it is not what was asked."""

    spec: OpSpec | None
    reason: str = ""
    form: Form = "native"  # how its weights are held and computed
    repeated: bool = False  # the one scale of a tensor is written once for each channel, as its kernel wants it

    def because(self, reason: str) -> "Decision":
        """The decision with `reason` in front of its own."""
        return replace(self, reason="; ".join(filter(None, (reason, self.reason))))


@dataclass(frozen=True)
class Policy:
    """How a recipe is bent to what kernels can do.

    A rigid recipe is refused where a kernel cannot compute what it asks of less than 8 bits; a flexible one gets more
    bits or a coarser granularity there.
    """

    prefer: Prefer = "speed"
    flexible: bool = False
    target: Target = field(default_factory=Target)  # where the file must run


Plan = Mapping[OpKey, Decision]
FLOAT = Decision(None)


def touches_float(op: Op, subgraph: Subgraph) -> bool:
    """Whether quantization concerns `op`: it reads or writes float values."""
    tensors = [subgraph.tensors[t] for t in (*op.inputs, *op.outputs) if t >= 0]
    return not facts_of(op.code).reads_shape and any(tensor.dtype == "float32" for tensor in tensors)


def make_plan(
    graph: Graph,
    asked: Mapping[OpKey, OpSpec | None],
    policy: Policy = Policy(),
    factored: Mapping[OpKey, str] | None = None,
    unfolded: Mapping[OpKey, str] | None = None,
) -> Plan:
    """What the kernels can give of what is asked.

    Args:
        graph: the float graph.
        asked: what the recipe asks of every operator.
        policy: what to do where that is impossible, or slow.
        factored: operators whose blocks became per-channel scales, the rest of them folded into what makes their
            inputs -> a note on that.
        unfolded: operators where that was not possible, or not better -> why.

    Raises:
        TfqError: an operator is asked for weights that no kernel computes; all such operators are listed.
    """
    problems = spec_problems(asked.values())
    raise_all(problems)
    plan = {}
    unknown, indices = depends_on_unrunnable(graph), index_movers(graph.main)
    for key, op in graph.ops():
        spec = asked[key]
        subgraph = graph.subgraphs[key[0]]
        if spec is None:
            plan[key] = Decision(None, "the recipe keeps it float") if touches_float(op, subgraph) else FLOAT
        elif spec.mode == "float":
            plan[key] = FLOAT
        elif spec.mode == "float16":
            half = _half(op, subgraph, spec, policy)
            if isinstance(half, str):
                problems.append(f"{subgraph.op_name(key[1])}: {half}")
            else:
                plan[key] = half
        else:
            if factored and key in factored:
                spec = _with(spec, granularity=PerChannel())
            spec, unread = _with_statistics(spec, key, op, subgraph, unknown)
            beyond = _beyond_calibration(key, op, subgraph, unknown)
            if key[0] == 0 and key[1] in indices:
                beyond = "it moves an index, which must not be rounded"
            choice = _Choice(op, subgraph, policy, beyond)
            decision = choice.decide(spec)
            if isinstance(decision, str):
                problems.append(f"{subgraph.op_name(key[1])}: {decision}")
            else:
                notes = (factored or {}).get(key) or (unfolded or {}).get(key, ""), unread if decision.spec else ""
                plan[key] = decision.because("; ".join(filter(None, notes))) if any(notes) else decision
    raise_all(problems)
    return plan


def spec_problems(specs: Iterable[OpSpec | None]) -> list[str]:
    """List what is wrong with the algorithms and observers of specs, and with their options."""
    problems: dict[str, None] = {}
    for spec in dict.fromkeys(specs):
        if spec is not None and spec.weights is not None:
            problems |= dict.fromkeys(algorithm_problems(spec.weights))
        if spec is not None and spec.activations is not None:
            problems |= dict.fromkeys(observer_problems(spec.activations))
    return list(problems)


def _with_statistics(spec: OpSpec, key: OpKey, op: Op, subgraph: Subgraph, unknown: set[int]) -> tuple[OpSpec, str]:
    """Return (the spec with an algorithm that has what it reads, why that is not the one that was asked)."""
    if spec.weights is None or not weight_axes(op, subgraph):
        return spec, ""
    reads = ALGORITHMS[spec.weights.algorithm].reads
    if not reads or (key[0] == 0 and has_statistics(op, subgraph) and unknown.isdisjoint(op.inputs)):
        return spec, ""
    why = f"its inputs are not observed, which algorithm {spec.weights.algorithm!r} reads: rounded to nearest"
    return _with(spec, algorithm="round_to_nearest", options=()), why


def _beyond_calibration(key: OpKey, op: Op, subgraph: Subgraph, unknown: set[int]) -> str:
    """Why the ranges of an operator cannot be known; "" when they can."""
    if key[0] > 0:
        return "it is inside a control-flow body, or in another signature"
    if not unknown.isdisjoint(op.inputs) or not unknown.isdisjoint(op.outputs):
        return "it comes after an operator that no runtime here executes"
    if any(0 in subgraph.tensors[t].shape for t in (*op.inputs, *op.outputs) if t != ABSENT):
        return "a tensor of it has no elements"
    return ""


def half_of(op: Op, subgraph: Subgraph) -> OpSpec | None:
    """How an operator holds its constants in float16; None where none of them is large enough to be worth it."""
    large = [s for s in float_constants(op, subgraph) if subgraph.tensors[op.inputs[s]].data.size >= HALF_MINIMUM]  # type: ignore[union-attr]
    return OpSpec("float16") if large else None


def _half(op: Op, subgraph: Subgraph, spec: OpSpec, policy: Policy) -> Decision | str:
    if half_of(op, subgraph) is None:
        return FLOAT
    problem = policy.target.no_float16
    if problem:
        return Decision(None, problem) if policy.flexible else f"{problem}; nearest: float"
    return Decision(spec, form="dequantize")


@dataclass(frozen=True)
class _Choice:
    """The decision on one operator."""

    op: Op
    subgraph: Subgraph
    policy: Policy
    beyond: str  # why its ranges cannot be known

    def decide(self, spec: OpSpec) -> Decision | str:
        """What it gets; or why it cannot have what is asked, and what would work."""
        if spec.mode == "integer":
            if not touches_float(self.op, self.subgraph):
                return FLOAT
            assert spec.activations is not None
            reason = self.beyond or no_integer_kernel(self.op, self.subgraph, spec.activations.bits)
            if not reason and self._is_fine_table(spec):
                reason = "no integer kernel reads such a table: its rows are looked up in float, and quantized then"
            if not reason:
                return self._weights(spec) if weight_axes(self.op, self.subgraph) else Decision(spec)
            other = self._weights(OpSpec("dynamic", spec.weights))
            return other if isinstance(other, str) else replace(other, reason=reason)
        return self._weights(spec)

    def _is_fine_table(self, spec: OpSpec) -> bool:
        """Whether `op` looks up rows of a table that no integer kernel reads like an activation: one scale, 8 bits."""
        assert spec.weights is not None
        if self.op.code != "GATHER" or not weight_axes(self.op, self.subgraph):
            return False
        if spec.weights.bits < 8 or spec.weights.granularity not in (PerTensor(), PerChannel()):
            return True
        whole = fineness(_with(spec, granularity=PerTensor()))
        return not form_of(self.op, self.subgraph, whole, self.policy.target).works

    def _weights(self, spec: OpSpec) -> Decision | str:
        if not weight_axes(self.op, self.subgraph):
            return FLOAT
        assert spec.weights is not None
        problem = ""
        for candidate, why in self._candidates(spec):
            found = self._form(candidate)
            if isinstance(found, Decision):
                return found.because(why or problem) if candidate != spec else found
            problem = problem or found
        if not any(kernels.somewhere(self.op.code, mode, table=self.policy.target.table) for mode in _OTHER_MODES):
            return Decision(None, f"{self.op.code} has no kernel for quantized weights")
        return Decision(None, problem) if self.policy.flexible else f"{problem}{self._what_works(spec)}"

    def _form(self, spec: OpSpec) -> Decision | str:
        weights = spec.weights
        assert weights is not None
        if not weights.symmetric and spec.mode != "weight_only":
            return "asymmetric weights are computed in mode weight_only alone; use symmetric=True"
        answer = form_of(self.op, self.subgraph, fineness(spec), self.policy.target)
        if answer.form is None:
            return answer.note
        if isinstance(weights.granularity, Blocks):
            spec = _with(spec, granularity=Blocks(answer.block) if answer.block else PerChannel())
        return Decision(spec, answer.note, answer.form, answer.repeated or self._wants_repeated(spec, answer.form))

    def _wants_repeated(self, spec: OpSpec, form: Form) -> bool:
        """Whether the fast kernels take one scale of a tensor only when it is written for each channel."""
        assert spec.weights is not None
        if self.policy.prefer != "speed" or spec.weights.stored_bits == 8 or form not in ("native", "pointwise"):
            return False
        each = fineness(_with(spec, granularity=PerChannel()))
        return (
            spec.weights.granularity == PerTensor() and form_of(self.op, self.subgraph, each, self.policy.target).works
        )

    def _candidates(self, spec: OpSpec) -> Iterator[tuple[OpSpec, str]]:
        """What is asked, and what may be given in its place: (spec, why)."""
        weights = spec.weights
        assert weights is not None
        flexible = self.policy.flexible or self._nowhere(spec)
        if self.policy.flexible and self.policy.prefer == "size" and self._is_bulky(spec):
            yield replace(spec, mode="weight_only"), "its kernel wants the one scale once for each channel: more bytes"
        slow = self._slow(spec)
        if not slow:
            yield spec, ""
        for given in self._instead(spec) if flexible else ():
            if given != spec and not self._slow(given):
                yield given, slow

    def _instead(self, spec: OpSpec) -> Iterator[OpSpec]:
        """Coarser granularities, more bits and other modes, the nearest first.

        Who prefers speed gets more bits before another mode, who prefers size another mode before more bits.
        """
        weights = spec.weights
        assert weights is not None
        modes: list[Mode] = [spec.mode, *(mode for mode in _OTHER_MODES if mode != spec.mode)]
        modes = modes if spec.mode == "integer" else modes[:2]
        bits = [b for b in (2, 4, 8) if b >= weights.stored_bits]
        by_mode = self.policy.prefer == "speed" or spec.mode == "integer"
        for mode, count in [(m, b) for m in modes for b in bits] if by_mode else [(m, b) for b in bits for m in modes]:
            given = replace(spec, mode=mode, activations=spec.activations if mode == "integer" else None)
            given = _with(given, bits=weights.bits if count == weights.stored_bits else count)
            given = _with(given, symmetric=weights.symmetric or mode != "weight_only")
            yield from (_with(given, granularity=granularity) for granularity in _coarser(weights.granularity))

    def _nowhere(self, spec: OpSpec) -> bool:
        """Whether even a rigid recipe means what there is: of 8-bit weights that no runtime computes, or, where nobody
        named runtimes, not all of the usual ones."""
        asked, table, weights = fineness(spec), self.policy.target.table, spec.weights
        assert weights is not None
        if weights.bits < 8 or asked.granularity == "blocks" or not weights.symmetric:
            return False
        if self.policy.target == Target():
            return True
        kind = "per_channel" if asked.granularity == "channel_groups" else asked.granularity
        return not kernels.somewhere(self.op.code, asked.mode, asked.activation_bits, kind, table)

    def _is_bulky(self, spec: OpSpec) -> bool:
        """Whether a dynamic-range kernel wants one scale repeated so often that a DEQUANTIZE, which takes it once, is
        smaller (and more exact)."""
        if spec.mode != "dynamic":
            return False
        native, stored = (
            form_of(self.op, self.subgraph, fineness(replace(spec, mode=mode)), self.policy.target)
            for mode in _OTHER_MODES
        )
        if not native.repeated or stored.repeated or not stored.works:
            return False
        (axes, *_) = weight_axes(self.op, self.subgraph)
        channels = self.subgraph.tensors[self.op.inputs[axes.slot]].shape[axes.channel]
        return channels * SCALE_BYTES > DEQUANTIZE_BYTES

    def _slow(self, spec: OpSpec) -> str:
        """Why these weights would not pay where speed is preferred; "" when the fast kernels take them.

        Weight-only mode is for size in any case. A rigid recipe is taken at its word.
        """
        assert spec.weights is not None
        if self.policy.prefer != "speed" or not self.policy.flexible or spec.mode == "weight_only":
            return ""
        if spec.mode == "integer" and isinstance(spec.weights.granularity, Blocks):
            return "integer kernels have no blocks, and their sums would take slow int16 kernels (prefer='size' does)"
        fast = self.op.code in ("FULLY_CONNECTED", "GATHER") or is_pointwise(self.op, self.subgraph)
        if fast or spec.weights.stored_bits == 8:
            return ""
        return f"no fast kernel takes {spec.weights.stored_bits}-bit {self.op.code} (prefer='size' takes them)"

    def _what_works(self, spec: OpSpec) -> str:
        relaxed = replace(self, policy=replace(self.policy, flexible=True, prefer="size"))
        candidates = [given for given, _ in relaxed._candidates(spec)]
        if spec.mode != "integer" and not (self.beyond or no_integer_kernel(self.op, self.subgraph, 8)):
            integer = _with(replace(spec, mode="integer", activations=ActivationSpec(8)), symmetric=True)
            candidates += [given for given, _ in relaxed._candidates(integer) if given.mode == "integer"]
        nearest = next((found.spec for given in candidates if isinstance(found := self._form(given), Decision)), None)
        return "; nearest: " + ("float" if nearest is None else f"{nearest.weights} in mode {nearest.mode}")


def _coarser(granularity: Granularity) -> list[Granularity]:
    """`granularity`, and what is coarser."""
    if granularity == PerTensor():
        return [granularity, PerChannel()]
    return list(dict.fromkeys((granularity, PerChannel(), PerTensor())))


def _with(spec: OpSpec, **changes: object) -> OpSpec:
    assert spec.weights is not None
    return replace(spec, weights=replace(spec.weights, **changes))  # type: ignore[arg-type]


def fineness(spec: OpSpec) -> Fineness:
    """What a spec asks of the kernels."""
    weights: WeightSpec | None = spec.weights
    assert weights is not None
    name = next(name for name, kind in GRANULARITIES.items() if isinstance(weights.granularity, kind))
    block = weights.granularity.size if isinstance(weights.granularity, Blocks) else 0
    activations = spec.activations.bits if spec.activations else None
    return Fineness(spec.mode, weights.stored_bits, name, block, activations, weights.symmetric)


def no_integer_kernel(op: Op, subgraph: Subgraph, bits: int) -> str:
    """Why no kernel runs `op` on integer activations of `bits`; "" when one does."""
    row = OPS.get(op.code)
    if row is None or not row.takes(f"int{bits}"):
        return f"{op.label} has no int{bits} kernel"
    tensors = [subgraph.tensors[t] for t in op.inputs if t >= 0]
    if op.code == lstm.CODE:
        return lstm.unusual(op, subgraph)
    if any(tensor.is_variable for tensor in tensors):
        return "it keeps its state in a variable"
    data = next((tensor for tensor in tensors if tensor.dtype == "float32" and not tensor.is_constant), None)
    if data is None:
        return "it reads no activation" if op.code in REWRITES else ""
    if row.distinct is not None and not _are_distinct(subgraph.tensors[op.inputs[row.distinct]].data):
        return f"the int{bits} kernel of {op.code} is wrong where indices repeat, as its may"
    if row.max_rank is not None and len(data.shape) > row.max_rank:
        return f"the int{bits} kernel of {op.code} takes at most rank {row.max_rank}, it has {len(data.shape)}"
    if row.reference_row is not None and bits == 8 and data.shape[-1:] > (row.reference_row,):
        return f"the int8 {op.code} over {data.shape[-1]} values aborts the process on the reference kernels"
    facts = facts_of(op.code)
    for slot in (facts.weight, facts.bias):
        tensor = op.inputs[slot] if slot is not None and slot < len(op.inputs) else ABSENT
        if tensor != ABSENT and not subgraph.tensors[tensor].is_constant:
            return f"its {'weight' if slot == facts.weight else 'bias'} is not a constant"
    return ""


def _are_distinct(indices: np.ndarray | None) -> bool:
    """Whether no row of `indices` [..., depth] appears twice; not when they are computed."""
    if indices is None:
        return False
    rows = indices.reshape(-1, indices.shape[-1])
    return len(np.unique(rows, axis=0)) == len(rows)
