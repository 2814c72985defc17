"""The minimum cut of a small flow network, by the maximum flow (Dinic 1970).

SciPy has one too; for the few hundred nodes of a graph of operators, importing it takes longer than the cut, and 33 MB,
half as much memory as everything else.
"""

import itertools
import math
from collections import deque
from typing import Any

TINY = 1e-12  # share of the largest capacity: what is left of an edge that rounding did not quite fill


Node = tuple[Any, ...]


class Network:
    """Capacities of directed edges between nodes that are named by tuples; `("source",)` and `("sink",)` are two."""

    def __init__(self) -> None:
        self._left: dict[Node, dict[Node, float]] = {("source",): {}, ("sink",): {}}  # residual capacities

    def add(self, start: Node, end: Node, capacity: float) -> None:
        """Add `capacity`, which may be infinite, to the edge from `start` to `end`."""
        forward, backward = self._left.setdefault(start, {}), self._left.setdefault(end, {})
        forward[end] = forward.get(end, 0.0) + capacity
        backward.setdefault(start, 0.0)

    def source_side(self) -> set[Node]:
        """Return the names on the source's side of a minimum cut; the network is used up."""
        finite = [c for edges in self._left.values() for c in edges.values() if math.isfinite(c)]
        least = TINY * max(finite, default=0.0)
        levels = self._levels(least)
        while ("sink",) in levels:
            edges = {node: list(self._left[node]) for node in levels}
            while self._push(levels, edges, least):
                pass
            levels = self._levels(least)
        return set(levels)

    def _levels(self, least: float) -> dict[Node, int]:
        """Return node -> edges from the source, over what can still take flow."""
        levels: dict[Node, int] = {("source",): 0}
        queue = deque([("source",)])
        while queue:
            node = queue.popleft()
            for other, left in self._left[node].items():
                if left > least and other not in levels:
                    levels[other] = levels[node] + 1
                    queue.append(other)
        return levels

    def _push(self, levels: dict[Node, int], edges: dict[Node, list[Node]], least: float) -> bool:
        """Send flow along one shortest path; False when there is none. `edges` forgets those that lead nowhere."""
        path: list[Node] = [("source",)]
        while path[-1] != ("sink",):
            node = path[-1]
            while edges[node]:
                other = edges[node][-1]
                if self._left[node][other] > least and levels.get(other) == levels[node] + 1:
                    path.append(other)
                    break
                edges[node].pop()
            else:
                path.pop()
                if not path:
                    return False
                edges[path[-1]].pop()
        steps = list(itertools.pairwise(path))
        flow = min(self._left[start][end] for start, end in steps)
        assert math.isfinite(flow), "a path of infinite capacity has no cut"
        for start, end in steps:
            self._left[start][end] -= flow
            self._left[end][start] += flow
        return True
