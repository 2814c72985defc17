"""Graphs of several entry points: one of them apart, and several put together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tfq_converters.graph import Graph, Signature, Subgraph


def with_main(graph: Graph, index: int) -> Graph:
    """Return `graph` with subgraph `index` first, where interpreters start; references are renumbered."""
    order = [index, *(number for number in range(len(graph.subgraphs)) if number != index)]
    return _chosen(graph, order)


def entry(graph: Graph, index: int) -> Graph:
    """Return the graph of subgraph `index` alone, with what it calls and its signatures."""
    order, ahead = [index], [index]
    while ahead:
        called = _references(graph.subgraphs[ahead.pop()])
        fresh = [number for number in dict.fromkeys(called) if number not in order]
        order += fresh
        ahead += fresh
    return _chosen(graph, order)


def together(graphs: Sequence[Graph]) -> Graph:
    """Return one graph with the main subgraphs of all, in order, then what they call, and the metadata of the first."""
    subgraphs: list[Subgraph] = []
    called: list[Subgraph] = []
    signatures: list[Signature] = []
    for n, graph in enumerate(graphs):
        start = len(graphs) + len(called)
        moved = {old: n if old == 0 else start + old - 1 for old in range(len(graph.subgraphs))}
        first, *others = (followed(subgraph, moved) for subgraph in graph.subgraphs)
        subgraphs.append(first)
        called += others
        signatures += [replace(s, subgraph=moved[s.subgraph]) for s in graph.signatures]
    return replace(graphs[0], subgraphs=(*subgraphs, *called), signatures=tuple(signatures))


def followed(subgraph: Subgraph, moved: Mapping[int, int]) -> Subgraph:
    """Return `subgraph` with the subgraphs that its operators call renumbered."""

    def follow(reference: Any) -> Any:
        if isinstance(reference, list | np.ndarray):
            return [follow(item) for item in reference]
        return moved.get(reference, reference)  # -1 stands for none

    ops = []
    for op in subgraph.ops:
        if op.options is not None:
            values = {k: follow(v) if _is_reference(k) else v for k, v in op.options.values.items()}
            op = replace(op, options=replace(op.options, values=values))
        ops.append(op)
    return replace(subgraph, ops=tuple(ops))


def _chosen(graph: Graph, order: Sequence[int]) -> Graph:
    """Return the subgraphs `order`, and the signatures on them."""
    moved = {old: new for new, old in enumerate(order)}
    return replace(
        graph,
        subgraphs=tuple(followed(graph.subgraphs[number], moved) for number in order),
        signatures=tuple(replace(s, subgraph=moved[s.subgraph]) for s in graph.signatures if s.subgraph in moved),
    )


def _references(subgraph: Subgraph) -> list[int]:
    references: list[int] = []
    for op in subgraph.ops:
        for name, value in op.options.values.items() if op.options is not None else ():
            if _is_reference(name):
                references += [int(item) for item in np.asarray(value).reshape(-1) if int(item) >= 0]
    return references


def _is_reference(option: str) -> bool:
    return option.lower().endswith(("subgraphindex", "subgraphindices")) or option == "subgraph"
