"""The decision on one operator, and the policy that decisions follow."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from tfq_converters.brief import brief
from tfq_converters.graph import Op, Subgraph
from tfq_converters.kernels import Target
from tfq_converters.operators import facts_of
from tfq_converters.quantized import Form, OpKey
from tfq_fine.request import IntegerSpec, OpSpec, WeightedSpec

Prefer = Literal["speed", "size"]


OnUnsupported = Literal["error", "fallback"]


HALF_MINIMUM = 1024  # constants of fewer elements are not worth a DEQUANTIZE


@dataclass(frozen=True)
class Decision:
    """The spec of one operator (None: float, over float constants), and why it is not what was requested."""

    spec: OpSpec | None
    reason: str = ""
    form: Form = "native"  # how its weights are held and computed
    repeated: bool = False  # the one scale of a tensor is written once for each channel, as its kernel wants it

    @property
    def weighted(self) -> WeightedSpec:
        """The spec of an operator whose weights are quantized.

        Raises:
            TypeError: they are not.
        """
        if not isinstance(self.spec, WeightedSpec):
            raise TypeError(f"expected quantized weights, found {self}")
        return self.spec

    def because(self, reason: str) -> "Decision":
        """Return the decision with `reason` before its own."""
        return replace(self, reason="; ".join(filter(None, (reason, self.reason))))


@dataclass(frozen=True)
class Policy:
    """How a recipe is adapted to what kernels can do.

    A rigid recipe is refused where a kernel cannot compute what it asks of less than 8 bits; a flexible one gets more
    bits or a coarser granularity there.
    """

    prefer: Prefer = "speed"
    flexible: bool = False
    target: Target = field(default_factory=Target)  # where the file must run


@dataclass(frozen=True, eq=False)
class Plan(Mapping[OpKey, Decision]):
    """The decision on every operator of a graph; what follows from it is computed once."""

    __repr__ = brief

    decisions: Mapping[OpKey, Decision]

    def __getitem__(self, key: OpKey) -> Decision:
        return self.decisions[key]

    def __iter__(self) -> Iterator[OpKey]:
        return iter(self.decisions)

    def __len__(self) -> int:
        return len(self.decisions)

    @cached_property
    def integer_ops(self) -> Mapping[int, int]:
        """Operators of the main subgraph that compute in integers -> activation bits."""
        return {
            o: decision.spec.activations.bits
            for (s, o), decision in self.items()
            if s == 0 and isinstance(decision.spec, IntegerSpec)
        }

    def but(self, changed: Mapping[OpKey, Decision]) -> "Plan":
        """Return the plan with other decisions on some operators; the plan itself where they are no others."""
        same = all(self.decisions[key] == decision for key, decision in changed.items())
        return self if same else Plan({**self.decisions, **changed})


FLOAT = Decision(None)
DEFAULT_POLICY = Policy()


def touches_float(op: Op, subgraph: Subgraph) -> bool:
    """Return whether quantization concerns `op`: it reads or writes float values."""
    tensors = [subgraph.tensors[t] for t in (*op.inputs, *op.outputs) if t >= 0]
    return not facts_of(op.code).reads_shape and any(tensor.dtype == "float32" for tensor in tensors)
