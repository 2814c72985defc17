"""The cut against all cuts, on small networks, and against SciPy's maximum flow, on larger ones."""

import itertools
import math
import random

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from tfq_fine.placement.minimum_cut import Network

SOURCE, SINK = ("source",), ("sink",)
Edges = dict[tuple[tuple, tuple], float]


def random_edges(rng: random.Random, nodes: int, count: int, infinite: float = 0.0) -> Edges:
    names = [SOURCE, SINK, *(("node", n) for n in range(nodes))]
    found: Edges = {}
    for _ in range(count):
        start, end = rng.sample(names, 2)
        if end != SOURCE and start != SINK:
            capacity = math.inf if rng.random() < infinite and (start, end) != (SOURCE, SINK) else rng.randint(0, 20)
            found[start, end] = found.get((start, end), 0) + capacity
    return found


def cut_of(edges: Edges) -> float:
    network = Network()
    for (start, end), capacity in edges.items():
        network.add(start, end, capacity)
    side = network.source_side()
    assert SOURCE in side and SINK not in side
    return sum(c for (start, end), c in edges.items() if start in side and end not in side)


@pytest.mark.parametrize("seed", range(40))
def test_no_other_cut_is_smaller(seed: int) -> None:
    rng = random.Random(seed)
    edges = random_edges(rng, 5, 16, infinite=0.1)
    names = {name for edge in edges for name in edge} - {SOURCE, SINK}
    best = min(
        sum(c for (start, end), c in edges.items() if start in {SOURCE, *some} and end not in {SOURCE, *some})
        for k in range(len(names) + 1)
        for some in itertools.combinations(names, k)
    )
    if math.isfinite(best):
        assert cut_of(edges) == best
    else:
        with pytest.raises(AssertionError, match="no cut"):
            cut_of(edges)


@pytest.mark.parametrize("seed", range(5))
def test_the_cut_is_the_maximum_flow(seed: int) -> None:
    edges = random_edges(random.Random(seed), 120, 700)
    names = {name: n for n, name in enumerate(dict.fromkeys([SOURCE, SINK, *(x for edge in edges for x in edge)]))}
    rows, columns = ([names[edge[side]] for edge in edges] for side in (0, 1))
    capacities = csr_array((np.array(list(edges.values()), np.int32), (rows, columns)), shape=(len(names),) * 2)
    assert cut_of(edges) == maximum_flow(capacities, 0, 1).flow_value
