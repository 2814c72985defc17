"""Indices that pass through float: rounded to a scale, an index names another row."""

from tfq_converters.graph import Subgraph
from tfq_converters.operators import facts_of


def index_movers(subgraph: Subgraph) -> set[int]:
    """Return operators that move float values from an input or integers to a CAST into integers."""
    producers, movers = subgraph.producers(), set()
    for op in subgraph.ops:
        if op.code != "CAST" or "int" not in subgraph.tensors[op.outputs[0]].dtype:
            continue
        tensor, passed = op.inputs[0], []
        while subgraph.tensors[tensor].dtype == "float32" and tensor in producers:
            mover = subgraph.ops[producers[tensor]]
            if facts_of(mover.code).moves != "one":
                break
            passed.append(producers[tensor])
            tensor = next(t for t in mover.inputs if t >= 0 and subgraph.tensors[t].dtype == "float32")
        origin = subgraph.ops[producers[tensor]] if tensor in producers else None
        if origin is None or (origin.code == "CAST" and "int" in subgraph.tensors[origin.inputs[0]].dtype):
            movers |= set(passed)
    return movers
