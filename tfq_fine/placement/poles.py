"""Operators with a pole at 0, whose input must not be rounded to 0: LOG and RSQRT, and DIV by its divisor.

`1 / (d + 1e-6)` is finite in float, and infinite as soon as an integer operator makes the divisor: its smallest value
is less than one step of its scale. Such a divisor, and what it is made of up to the sum with its epsilon, stay float.
"""

from collections.abc import Mapping

from tfq_converters.graph import Op, Subgraph
from tfq_converters.operators import facts_of
from tfq_converters.quantized import ActivationEncoding
from tfq_fine.activations import data_slots, keeps_positive, tensor_range
from tfq_fine.calibration import Range, Statistics


def near_poles(
    main: Subgraph,
    ops: Mapping[int, int],
    tensors: Mapping[tuple[int, int], ActivationEncoding],
    statistics: Statistics,
) -> dict[int, str]:
    """Return the operators that must compute in float because something would be rounded to a pole -> the reason.

    Args:
        main: the main subgraph.
        ops: its operators in integers -> bits of their activations.
        tensors: (tensor, bits) -> the encoding that it would have.
        statistics: ranges of the activations.
    """
    reasons: dict[int, str] = {}
    producers = main.producers()
    for o, op in enumerate(main.ops):
        facts = facts_of(op.code)
        slot = facts.positive if facts.pole else None
        if slot is None or slot >= len(op.inputs) or main.tensors[op.inputs[slot]].is_constant:
            continue
        if main.tensors[op.inputs[slot]].dtype != "float32" or (o in ops and facts.pole == "saturates"):
            continue
        t = op.inputs[slot]
        makers = feeding(main, t, ops)
        if o not in ops and not makers:
            continue
        writer = producers.get(t)
        written = ops.get(o) if writer is None or writer not in ops else ops[writer]
        bits = written or max(ops[maker] for maker in makers)
        form = tensors.get((t, bits))
        least = smallest(tensor_range(main, t, statistics))
        if form is None or least >= form.scale:
            continue
        name = main.tensors[t].name
        pole = f"{name} comes down to {least:.3g}, less than one step of {form.scale:.3g} in int{bits}"
        if o in ops:
            reasons[o] = f"its divisor {pole}: it would be rounded to 0"
        reasons |= dict.fromkeys(makers, f"{pole}: rounded to 0, it would have no finite {op.code}")
    return reasons


def smallest(found: Range) -> float:
    """Return the smallest magnitude in a range; 0 where it reaches to both sides."""
    return max(found.low, -found.high, 0.0)


def feeding(main: Subgraph, tensor: int, ops: Mapping[int, int]) -> set[int]:
    """Return the operators of `ops` that compute `tensor`, and those that move it or give it an epsilon.

    What keeps a value above 0 (MAXIMUM with a positive constant) does so in integers too.
    """
    producers, open_tensors = main.producers(), [tensor]
    feeders: set[int] = set()
    while open_tensors:
        o = producers.get(open_tensors.pop())
        if o is None or o in feeders:
            continue
        op = main.ops[o]
        if o in ops:
            if keeps_positive(op, main):
                continue
            feeders.add(o)
        if facts_of(op.code).within_input or _adds_a_constant(op, main):
            slots = data_slots(op, main)
            open_tensors += [op.inputs[slot] for slot in slots if not main.tensors[op.inputs[slot]].is_constant]
    return feeders


def _adds_a_constant(op: Op, main: Subgraph) -> bool:
    return facts_of(op.code).adds and any(t >= 0 and main.tensors[t].is_constant for t in op.inputs)
