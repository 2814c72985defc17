"""Float16 files, which hold half-precision constants before DEQUANTIZE, read as the float32 models that they stand for.

Float32 holds every float16 value exactly, so the graph computes the same, and float16 written again is bit for bit the
one that was read.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from tfq_converters.graph import Graph, IdentityCache, Op, Subgraph

WIDENS = ("DEQUANTIZE", "CAST")  # the operators that make float32 of float16


@dataclass(frozen=True)
class Folded:
    """A graph without operators that only widen constants, and how many constants were widened."""

    graph: Graph
    count: int

    @property
    def notes(self) -> tuple[str, ...]:
        """A note for the user."""
        if not self.count:
            return ()
        return (f"the model holds float16: its {self.count} constants were read as float32, with equal values",)


def without_half_constants(graph: Graph) -> Folded:
    """Return `graph` with each float16 constant that is only widened replaced by a float32 one.

    Tensors keep their indices; constants that were one array still are one.
    """
    wide = IdentityCache()
    subgraphs = tuple(_folded(subgraph, wide) for subgraph in graph.subgraphs)
    return Folded(replace(graph, subgraphs=subgraphs) if wide else graph, len(wide))


def _folded(subgraph: Subgraph, wide: IdentityCache) -> Subgraph:
    widening = [op for op in subgraph.ops if _widens(subgraph, op)]
    if not widening:
        return subgraph
    tensors = list(subgraph.tensors)
    for op in widening:
        data = tensors[op.inputs[0]].constant
        values = wide.once(partial(data.astype, np.float32), data)
        tensors[op.outputs[0]] = replace(tensors[op.outputs[0]], data=values)
    gone = {id(op) for op in widening}
    ops = tuple(op for op in subgraph.ops if id(op) not in gone)
    used = {t for op in ops for t in op.inputs}
    for t in {op.inputs[0] for op in widening} - used:
        tensors[t] = replace(tensors[t], data=None)
    return replace(subgraph, tensors=tuple(tensors), ops=ops)


def _widens(subgraph: Subgraph, op: Op) -> bool:
    if op.code not in WIDENS:
        return False
    before, after = subgraph.tensors[op.inputs[0]], subgraph.tensors[op.outputs[0]]
    return before.is_constant and before.dtype == "float16" and after.dtype == "float32"
