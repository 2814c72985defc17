"""The choice for one operator: what is requested of its weights, cut down to what the kernels compute."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tfq_converters import kernels
from tfq_converters.graph import Op, Subgraph
from tfq_converters.kernels import Fineness, Target, form_of
from tfq_converters.operators import is_pointwise, weight_axes
from tfq_converters.quantized import Form, Mode
from tfq_fine.planning.decision import FLOAT, Decision, Policy, touches_float
from tfq_fine.planning.kernel_support import no_integer_kernel
from tfq_fine.request import (
    GRANULARITIES,
    ActivationSpec,
    Blocks,
    Granularity,
    IntegerSpec,
    PerChannel,
    PerTensor,
    WeightedSpec,
)

_OTHER_MODES: tuple[Mode, ...] = ("dynamic", "weight_only")


SCALE_BYTES, DEQUANTIZE_BYTES = 12, 256  # a scale and its zero point; an operator, its result and a name


@dataclass(frozen=True)
class Choice:
    """The decision on one operator."""

    op: Op
    subgraph: Subgraph
    policy: Policy
    beyond: str  # why its ranges cannot be known

    def decide(self, spec: WeightedSpec) -> Decision | str:
        """Return the decision; or why the operator cannot have what is requested, and what would work."""
        if isinstance(spec, IntegerSpec):
            if not touches_float(self.op, self.subgraph):
                return FLOAT
            reason = self.beyond or no_integer_kernel(self.op, self.subgraph, spec.activations.bits)
            if not reason and self._is_fine_table(spec):
                reason = "no integer kernel reads such a table: its rows are looked up in float, and quantized then"
            if not reason:
                return self._weights(spec) if weight_axes(self.op, self.subgraph) else Decision(spec)
            other = self._weights(WeightedSpec("dynamic", spec.weights))
            return other if isinstance(other, str) else replace(other, reason=reason)
        return self._weights(spec)

    def _is_fine_table(self, spec: WeightedSpec) -> bool:
        """Return whether `op` looks up rows of a table that integer kernels cannot read as an 8-bit activation."""
        if self.op.code != "GATHER" or not weight_axes(self.op, self.subgraph):
            return False
        if spec.weights.bits < 8 or spec.weights.granularity not in (PerTensor(), PerChannel()):
            return True
        whole = fineness(spec.with_weights(granularity=PerTensor()))
        return not form_of(self.op, self.subgraph, whole, self.policy.target).works

    def _weights(self, spec: WeightedSpec) -> Decision | str:
        if not weight_axes(self.op, self.subgraph):
            return FLOAT
        problem = ""
        for candidate, why in self._candidates(spec):
            decision = self._form(candidate)
            if isinstance(decision, Decision):
                return decision.because(why or problem) if candidate != spec else decision
            problem = problem or decision
        if not any(kernels.somewhere(self.op.code, mode, table=self.policy.target.table) for mode in _OTHER_MODES):
            return Decision(None, f"{self.op.code} has no kernel for quantized weights")
        return Decision(None, problem) if self.policy.flexible else f"{problem}{self._what_works(spec)}"

    def _form(self, spec: WeightedSpec) -> Decision | str:
        weights = spec.weights
        if not weights.symmetric and spec.mode != "weight_only":
            return "asymmetric weights are computed in mode weight_only alone; use symmetric=True"
        answer = form_of(self.op, self.subgraph, fineness(spec), self.policy.target)
        if answer.form is None:
            return answer.note
        if isinstance(weights.granularity, Blocks):
            spec = spec.with_weights(granularity=Blocks(answer.block) if answer.block else PerChannel())
        return Decision(spec, answer.note, answer.form, answer.repeated or self._wants_repeated(spec, answer.form))

    def _wants_repeated(self, spec: WeightedSpec, form: Form) -> bool:
        """Return whether the fast kernels take one scale of a tensor only when it is written for each channel."""
        if self.policy.prefer != "speed" or spec.weights.stored_bits == 8 or form not in ("native", "pointwise"):
            return False
        each = fineness(spec.with_weights(granularity=PerChannel()))
        return (
            spec.weights.granularity == PerTensor() and form_of(self.op, self.subgraph, each, self.policy.target).works
        )

    def _candidates(self, spec: WeightedSpec) -> Iterator[tuple[WeightedSpec, str]]:
        """Yield what is requested, and what may be given in its place: (spec, why)."""
        flexible = self.policy.flexible or self._nowhere(spec)
        if self.policy.flexible and self.policy.prefer == "size" and self._is_bulky(spec):
            yield replace(spec, mode="weight_only"), "its kernel wants the one scale once for each channel: more bytes"
        slow = self._slow(spec)
        if not slow:
            yield spec, ""
        for alternative in self._instead(spec) if flexible else ():
            if alternative != spec and not self._slow(alternative):
                yield alternative, slow

    def _instead(self, spec: WeightedSpec) -> Iterator[WeightedSpec]:
        """Yield coarser granularities, more bits and other modes, the nearest first.

        Who prefers speed gets more bits before another mode, who prefers size another mode before more bits.
        """
        weights = spec.weights
        modes: list[Mode] = [spec.mode, *(mode for mode in _OTHER_MODES if mode != spec.mode)]
        modes = modes if spec.mode == "integer" else modes[:2]
        bits = [b for b in (2, 4, 8) if b >= weights.stored_bits]
        by_mode = self.policy.prefer == "speed" or spec.mode == "integer"
        for mode, count in [(m, b) for m in modes for b in bits] if by_mode else [(m, b) for b in bits for m in modes]:
            alternative = replace(spec, mode=mode, activations=spec.activations if mode == "integer" else None)
            alternative = alternative.with_weights(
                bits=weights.bits if count == weights.stored_bits else count,
                symmetric=weights.symmetric or mode != "weight_only",
            )
            yield from (alternative.with_weights(granularity=coarser) for coarser in _coarser(weights.granularity))

    def _nowhere(self, spec: WeightedSpec) -> bool:
        """Return whether a rigid recipe, too, gets the nearest realization that exists.

        That holds for 8-bit weights that no runtime computes or, where nobody named runtimes, not all usual ones.
        """
        requested, table, weights = fineness(spec), self.policy.target.table, spec.weights
        if weights.bits < 8 or requested.granularity == "blocks" or not weights.symmetric:
            return False
        if self.policy.target == Target():
            return True
        kind = "per_channel" if requested.granularity == "channel_groups" else requested.granularity
        return not kernels.somewhere(self.op.code, requested.mode, requested.activation_bits, kind, table)

    def _is_bulky(self, spec: WeightedSpec) -> bool:
        """Return whether a DEQUANTIZE is smaller than a dynamic-range kernel, and more exact.

        The one stores a scale once, the other repeats it for every channel.
        """
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

    def _slow(self, spec: WeightedSpec) -> str:
        """Return why these weights would be slow where speed is preferred; "" when the fast kernels take them.

        Weight-only mode is for size in any case. A rigid recipe gets what it requests, however slow.
        """
        if self.policy.prefer != "speed" or not self.policy.flexible or spec.mode == "weight_only":
            return ""
        if spec.mode == "integer" and isinstance(spec.weights.granularity, Blocks):
            return "integer kernels have no blocks, and their sums would take slow int16 kernels (prefer='size' does)"
        fast = self.op.code in ("FULLY_CONNECTED", "GATHER") or is_pointwise(self.op, self.subgraph)
        if fast or spec.weights.stored_bits == 8:
            return ""
        return f"no fast kernel takes {spec.weights.stored_bits}-bit {self.op.code} (prefer='size' takes them)"

    def _what_works(self, spec: WeightedSpec) -> str:
        relaxed = replace(self, policy=replace(self.policy, flexible=True, prefer="size"))
        candidates = [candidate for candidate, _ in relaxed._candidates(spec)]
        if spec.mode != "integer" and not (self.beyond or no_integer_kernel(self.op, self.subgraph, 8)):
            integer = replace(spec, mode="integer", activations=ActivationSpec(8)).with_weights(symmetric=True)
            candidates += [candidate for candidate, _ in relaxed._candidates(integer) if candidate.mode == "integer"]
        nearest = next(
            (decision.spec for candidate in candidates if isinstance(decision := self._form(candidate), Decision)), None
        )
        return "; nearest: " + ("float" if nearest is None else f"{nearest.weights} in mode {nearest.mode}")


def _coarser(granularity: Granularity) -> list[Granularity]:
    """Return `granularity`, and what is coarser."""
    if granularity == PerTensor():
        return [granularity, PerChannel()]
    return list(dict.fromkeys((granularity, PerChannel(), PerTensor())))


def fineness(spec: WeightedSpec) -> Fineness:
    """Return the fineness that a spec requests of the kernels."""
    weights = spec.weights
    name = next(name for name, kind in GRANULARITIES.items() if isinstance(weights.granularity, kind))
    block = weights.granularity.size if isinstance(weights.granularity, Blocks) else 0
    activations = spec.activations.bits if spec.activations else None
    return Fineness(spec.mode, weights.stored_bits, name, block, activations, weights.symmetric)
