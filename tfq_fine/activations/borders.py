"""Inputs and outputs of a file that are requested in integers, and those that cannot be."""

from tfq_converters.graph import Graph
from tfq_converters.runtime import depends_on_unrunnable, unrunnable_names


def integer_borders(graph: Graph, input_type: str, output_type: str) -> dict[int, str]:
    """Return tensor -> integer type, for the float inputs and outputs of the main subgraph that become integers.

    The range of what comes after an operator that no runtime here executes is unknown: such an output stays float.
    """
    unknown = depends_on_unrunnable(graph)
    sides = ((graph.main.inputs, input_type), (graph.main.outputs, output_type))
    return {
        t: kind
        for tensors, kind in sides
        for t in tensors
        if kind != "float32" and graph.main.tensors[t].dtype == "float32" and t not in unknown
    }


def left_float(graph: Graph, output_type: str) -> list[str]:
    """Return a sentence on outputs that stay float although `output_type` was requested."""
    unknown = depends_on_unrunnable(graph) if output_type != "float32" else set()
    names = zip(graph.output_names(), graph.main.outputs, strict=True)
    kept = [repr(name) for name, t in names if t in unknown and graph.main.tensors[t].dtype == "float32"]
    if not kept:
        return []
    after = ", ".join(unrunnable_names(graph))
    return [
        f"outputs {', '.join(kept)} stay float32 though {output_type} was requested: no runtime here executes {after}, "
        "so that their range cannot be known"
    ]
