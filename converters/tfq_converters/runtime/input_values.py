"""Generated inputs that fit what a graph does with them: indices in bounds, lengths, masks, probabilities.

An input is followed through operators that hand its values on. What they reach says what they are: the rows of a table,
the length of a sequence, the argument of a logarithm. Values that say nothing are drawn from a normal distribution.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tfq_converters.graph import ABSENT, NUMPY_TYPES, AnyArray, Op, Subgraph, Tensor
from tfq_converters.operators import facts_of

Kind = Literal["index", "length", "mask", "probability", "plain"]  # the first that applies counts
KINDS: tuple[Kind, ...] = ("index", "length", "mask", "probability", "plain")
UNBOUNDED = 8  # integers that index nothing are drawn below this
LARGE = 1e3  # a mask times this or more takes scores out
SET = 0.75  # share of a mask that is set, and its first element in any case
TAKES_SIZE = {"FILL": 0, "RESHAPE": 1, "TILE": 1, "BROADCAST_TO": 1, "RANGE": 1}


@dataclass(frozen=True)
class Role:
    """The meaning of an input's values; whole numbers from `low` up to, not including, `high`."""

    kind: Kind = "plain"
    low: int = 0
    high: int = UNBOUNDED


def role_of(subgraph: Subgraph, start: int) -> Role:
    """Return the meaning of tensor `start` to the operators that it reaches: the first, narrowest kind that applies.

    Where nothing tells the meaning, whole numbers are rows of every table, since the tensor may index one in a way that
    this module does not follow.
    """
    roles: dict[Kind, Role] = {}
    for role in _roles(subgraph, start):
        other = roles.get(role.kind, role)
        roles[role.kind] = Role(role.kind, max(other.low, role.low), min(other.high, role.high))
    tables = (subgraph.tensors[op.inputs[0]] for op in subgraph.ops if op.code == "GATHER")
    smallest = min((table.shape[0] for table in tables if table.is_constant and table.shape), default=UNBOUNDED)
    return next((roles[kind] for kind in KINDS if kind in roles), Role(high=max(1, min(UNBOUNDED, smallest))))


def drawn(
    rng: np.random.Generator, tensor: Tensor, role: Role, shape: tuple[int, ...] | None = None, normal: bool = True
) -> AnyArray:
    """Return values for `tensor`, of `shape` where the file leaves its own open; strings are empty.

    Args:
        rng: the source of randomness.
        tensor: an input.
        role: what its values are.
        shape: another than the tensor's own.
        normal: whether plain floats are normal; they are uniform in [0, 1) else.
    """
    shape = tensor.shape if shape is None else shape
    if tensor.dtype == "string":
        return np.full(shape, b"", np.bytes_)
    dtype = np.dtype(NUMPY_TYPES[tensor.dtype])
    if role.kind == "mask" or dtype == np.bool_:
        values = rng.random(shape) < SET
        if values.ndim and values.shape[-1]:
            values[..., 0] = True
        return values.astype(dtype)
    if role.kind in ("index", "length"):
        return rng.integers(role.low, max(role.high, role.low + 1), shape).astype(dtype)
    if dtype.kind in "iu":
        high = int(np.iinfo(dtype).max) + 1 if dtype.itemsize == 1 else role.high
        return rng.integers(0, high, shape).astype(dtype)
    if role.kind == "probability":
        return rng.uniform(0.05, 0.95, shape).astype(dtype)
    return (rng.standard_normal(shape) if normal else rng.random(shape)).astype(dtype)


def _roles(subgraph: Subgraph, start: int) -> Iterator[Role]:
    """Yield the roles that operators give to the values of `start` where these reach them."""
    consumers = subgraph.consumers()
    ahead: list[tuple[int, str]] = [(start, "unchanged")]
    visited = set(ahead)
    while ahead:
        tensor, state = ahead.pop()
        for index, slot in consumers.get(tensor, []):
            op = subgraph.ops[index]
            role = _role_at(subgraph, op, slot, tensor, state)
            if role is not None:
                yield role
            after = _after(subgraph, op, slot, tensor, state)
            for output in op.outputs if after else ():
                if (output, after) not in visited:
                    visited.add((output, after))
                    ahead.append((output, after))


def _role_at(subgraph: Subgraph, op: Op, slot: int, tensor: int, state: str) -> Role | None:
    """Return the role that `op` gives to the values in `slot`; None where it tells none."""
    kind = subgraph.tensors[tensor].dtype
    whole = "int" in kind
    if whole and state == "unchanged":
        rows = _rows(subgraph, op, slot)
        if rows is not None:
            return Role("index", 0, rows)
        if op.code == "REVERSE_SEQUENCE" and slot == 1:
            return Role("length", 1, subgraph.tensors[op.inputs[0]].shape[op.option("seqDim")] + 1)
        if TAKES_SIZE.get(op.code) == slot or (op.code == "SLICE" and slot == 2):
            return Role("length", 1, 2)
        if op.code == "SLICE" and slot == 1:
            return Role("length", 0, 1)
        bound = _compared(subgraph, op, slot)
        if bound is not None:
            return Role("length", 0, bound)
        if op.code in ("EQUAL", "NOT_EQUAL") and _is_constant(subgraph, op, 1 - slot, 0):
            return Role("mask")
    if op.code == "CAST" and subgraph.tensors[op.outputs[0]].dtype == "bool":
        return Role("mask")
    if state == "from one" and op.code == "MUL" and _is_large(subgraph, op, 1 - slot):
        return Role("mask")
    if kind.startswith("float") and state != "rounded" and slot == facts_of(op.code).positive:
        return Role("probability")
    return None


def _after(subgraph: Subgraph, op: Op, slot: int, tensor: int, state: str) -> str:
    """Return the state in which `op` hands on the values of `slot`; "" where it changes them."""
    before = subgraph.tensors[tensor].dtype
    after = subgraph.tensors[op.outputs[0]].dtype if op.outputs else ""
    if op.code == "CAST":
        return "unchanged" if after in ("int32", "int64") else state if after.startswith("float") else ""
    if before.startswith("float"):
        if _moves(op, slot):
            return state
        if facts_of(op.code).rounds:
            return "rounded"
        if op.code == "SUB" and _is_constant(subgraph, op, 1 - slot, 1):
            return "from one"
        facts = facts_of(op.code)
        constant = any(subgraph.tensors[t].is_constant for t in op.inputs if t != ABSENT)
        positive = constant and (facts.adds or facts.limits)  # an epsilon, mostly
        return "shifted" if positive else ""
    if op.code == "SUB" and _is_constant(subgraph, op, 1 - slot, 1):
        return "from one"
    handed_on = _moves(op, slot) or facts_of(op.code).chooses or op.code in ("ADD", "LESS")
    if handed_on and after in ("int32", "int64", "bool"):
        return state
    return ""


def _moves(op: Op, slot: int) -> bool:
    """Return whether `op` puts the values that it gets in `slot` in other places."""
    facts = facts_of(op.code)
    return facts.moves != "" and slot in facts.data_slots(len(op.inputs))


def _rows(subgraph: Subgraph, op: Op, slot: int) -> int | None:
    """Return how many values an index may have that `op` reads in `slot`; None where that is no index."""

    def shape(of: int) -> tuple[int, ...]:
        return subgraph.tensors[op.inputs[of]].shape

    if op.code == "GATHER" and slot == 1:
        result: int = shape(0)[op.option("axis")]
        return result
    if op.code == "EMBEDDING_LOOKUP" and slot == 0:
        return shape(1)[0]
    if op.code == "GATHER_ND" and slot == 1:
        return min(shape(0)[: shape(1)[-1]], default=1)
    if op.code == "ONE_HOT" and slot == 0:
        return _number(subgraph, op, 1)
    if op.code.startswith("UNSORTED_SEGMENT") and slot == 1:
        return _number(subgraph, op, 2)
    if op.code == "SEGMENT_SUM" and slot == 1:
        return 1  # its indices are sorted
    return None


def _number(subgraph: Subgraph, op: Op, slot: int) -> int | None:
    data = subgraph.tensors[op.inputs[slot]].data
    return None if data is None or data.size != 1 else int(data.reshape(-1)[0])


def _compared(subgraph: Subgraph, op: Op, slot: int) -> int | None:
    """Return the largest constant that `op` compares a length with, plus one; None if it compares none."""
    if op.code not in ("LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"):
        return None
    data = subgraph.tensors[op.inputs[1 - slot]].data
    largest = 0 if data is None or not data.size else int(data.max())
    return largest + 2 if largest > 0 else None  # compared with 0 alone, it is an index that may be negative


def _is_constant(subgraph: Subgraph, op: Op, slot: int, value: float) -> bool:
    data = subgraph.tensors[op.inputs[slot]].data
    return data is not None and data.size > 0 and bool(np.all(data == value))


def _is_large(subgraph: Subgraph, op: Op, slot: int) -> bool:
    data = subgraph.tensors[op.inputs[slot]].data
    return data is not None and data.size > 0 and float(np.abs(data).max()) >= LARGE
