"""Layer names for a `.tflite` that comes without its Keras model, read off the names of its tensors."""

import re
from collections import Counter
from dataclasses import replace

from tfq_converters.graph import Graph, Op, Subgraph
from tfq_converters.reading.layer_names.names import SUFFIX, computes, parts, weights
from tfq_converters.reading.layer_names.neighbours import spread

# Scopes that TensorFlow and Keras open inside a layer.
INNER = re.compile(
    r"(while|body|cond|einsum|tensordot|moments|batchnorm|normalize|gelu|tensorarray\w*|\w*_cell|"
    r"(stateful)?partitionedcall)(_\d+)?",
    re.IGNORECASE,
)
COUNTED_SHARE = (
    0.8  # share of the scopes; above it the numbers at their ends come from the framework, not from the user
)


def layer_from_names(graph: Graph) -> Graph:
    """Return `graph` with `Op.layer` guessed from tensor names; every operator gets a stable name.

    Args:
        graph: a float graph of any origin.
    """
    scopes = [
        path for subgraph in graph.subgraphs for tensor in subgraph.tensors for path, _ in parts(tensor.name) if path
    ]
    roots = Counter(path[0] for path in scopes)
    root = roots.most_common(1)[0][0] if roots else ""
    outer = [scope for path in scopes for scope in path[1:2] if not INNER.fullmatch(scope)]
    counted = bool(outer) and sum(bool(SUFFIX.search(scope)) for scope in outer) >= COUNTED_SHARE * len(outer)
    layer_of = {}
    for key, op in graph.ops():
        name = _layer(graph.subgraphs[key[0]], op, root, counted) or _tensor(graph.subgraphs[key[0]], op)
        if name:
            layer_of[key] = name
    layers = spread(graph, layer_of)
    subgraphs = (
        replace(subgraph, ops=tuple(replace(op, layer=layers[n, i]) for i, op in enumerate(subgraph.ops)))
        for n, subgraph in enumerate(graph.subgraphs)
    )
    return replace(graph, subgraphs=tuple(subgraphs))


def _layer(subgraph: Subgraph, op: Op, root: str, counted: bool) -> str:
    """Return the scopes of a name between the model's and those inside a layer: an output's, else a weight's."""
    for tensor in (*op.outputs, *weights(subgraph, op)):
        joined = parts(subgraph.tensors[tensor].name)
        for scopes, _ in sorted(joined, key=lambda part: not computes(op.code, part[1])):
            inside = scopes[1:] if scopes and SUFFIX.sub("", scopes[0]) == SUFFIX.sub("", root) else scopes
            kept = []
            for scope in inside:
                if INNER.fullmatch(scope) or (counted and not SUFFIX.search(scope)):
                    break
                kept.append(SUFFIX.sub("", scope) if counted else scope)
            if kept:
                return "/".join(kept)
    return ""


def _tensor(subgraph: Subgraph, op: Op) -> str:
    """Return the name of the first output itself, where it is a name at all."""
    joined = parts(subgraph.tensors[op.outputs[0]].name) if op.outputs else []
    name = joined[-1][1] if joined and not joined[-1][0] else ""
    return "" if SUFFIX.sub("", name) == "Identity" else name
