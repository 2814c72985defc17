"""Operators that only move values follow what is around them: between float operators they stay float.

In integers such an operator costs two conversions, and a rounding that the model did not need.
"""

from collections.abc import Mapping

from tfq_converters.graph import Subgraph
from tfq_converters.operators import facts_of
from tfq_fine.activations import data_slots

FOLLOWS = "it only moves values between operators in float"


def between_floats(main: Subgraph, ops: Mapping[int, int], integer_borders: bool) -> dict[int, str]:
    """Return operators of `ops` that only move float values, read by a float operator -> reason.

    A value that is read in integers alone is quantized before it is moved, which is as exact, and moves fewer bytes.

    Args:
        main: the main subgraph.
        ops: its operators in integers -> bits of their activations.
        integer_borders: inputs and outputs of the file are integers, or it is meant for a device without float.
    """
    producers, consumers = main.producers(), main.consumers()
    floats = {o for o in ops if facts_of(main.ops[o].code).moves and _moves_an_activation(main, o)}

    def is_float(o: int) -> bool:
        return o not in ops or o in floats

    def made_in_float(t: int) -> bool:
        if main.tensors[t].is_constant:
            return True
        return is_float(producers[t]) if t in producers else not integer_borders

    def read_in_float(t: int) -> bool:
        return (t in main.outputs and not integer_borders) or any(
            is_float(o) and _computes(main, o) for o, _ in consumers.get(t, ())
        )

    while True:
        wrong = set()
        for o in floats:
            op = main.ops[o]
            sources = [op.inputs[slot] for slot in data_slots(op, main)]
            if not (all(map(made_in_float, sources)) and any(map(read_in_float, op.outputs))):
                wrong.add(o)
        if not wrong:
            return dict.fromkeys(sorted(_next_to_floats(main, ops, floats)), FOLLOWS)
        floats -= wrong


def _next_to_floats(main: Subgraph, ops: Mapping[int, int], movers: set[int]) -> set[int]:
    """Return `movers` connected to a float operator through other movers; inputs and outputs alone do not count."""
    producers, consumers = main.producers(), main.consumers()

    def neighbours(o: int) -> set[int]:
        op = main.ops[o]
        before = {producers[t] for t in op.inputs if t in producers and main.tensors[t].dtype == "float32"}
        return before | {reader for t in op.outputs for reader, _ in consumers.get(t, ())}

    reached: set[int] = set()
    border = {o for o in movers if any(n not in ops and _computes(main, n) for n in neighbours(o))}
    while border:
        reached |= border
        border = {n for o in border for n in neighbours(o) if n in movers} - reached
    return reached


def _computes(main: Subgraph, o: int) -> bool:
    """Return whether operator `o` gives real values; SHAPE does not."""
    return any(main.tensors[t].dtype == "float32" for t in main.ops[o].outputs)


def _moves_an_activation(main: Subgraph, o: int) -> bool:
    """Return whether it moves an activation, not a row of a table, which is a constant."""
    op = main.ops[o]
    return any(not main.tensors[op.inputs[slot]].is_constant for slot in data_slots(op, main))
