"""Data, statistics and the like by signature, for models of several: each goes to the signature that it is for."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_converters.graph_edit import entry
from tfq_fine.calibration.statistics import Statistics

D = TypeVar("D")
T = TypeVar("T")


def by_signature(graph: Graph, data: Any) -> dict[str, Any] | None:
    """Return the data of each signature, where `data` is a dict by signature; None where it is that of the first alone.

    Its keys are inputs where all of them name inputs of the first signature, or some do and none is a signature.

    Raises:
        TfqError: as `matched`.
    """
    if not isinstance(data, Mapping) or len(entries(graph)) < 2:
        return None
    names, keys = set(graph.input_names()), {signature.key for signature in graph.signatures}
    if set(data) <= names or (not names.isdisjoint(data) and keys.isdisjoint(data)):
        return None
    return matched(graph, data, "data")


def matched(graph: Graph, values: Mapping[str, T], what: str, whole: bool = True) -> dict[str, T]:
    """Return `values` by the keys of `entries`, which several signatures of one subgraph may stand for.

    Raises:
        TfqError: signatures that the model does not have, or, of what is to be `whole`, that are missing: all of them.
    """
    keys = [signature.key for signature in graph.signatures]
    subgraphs = {s.subgraph: values[s.key] for s in graph.signatures if s.key in values}
    missing = [key for subgraph, key in entries(graph).items() if subgraph not in subgraphs]
    problems = []
    for key in (key for key in values if key not in keys):
        near = difflib.get_close_matches(str(key), keys, n=1)
        problems.append(f"names {key!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
    if missing and whole:
        problems.append(f"lacks {', '.join(map(repr, missing))}")
    if problems:
        raise TfqError(f"{what} by signature {', '.join(problems)}; the model has {', '.join(keys) or 'no signatures'}")
    return {key: subgraphs[subgraph] for subgraph, key in entries(graph).items() if subgraph in subgraphs}


def of_each(graph: Graph, data: Any, statistics: Statistics | None) -> dict[str, tuple[Any, Statistics | None]] | None:
    """Return the data and the statistics of each signature; None where they are those of the first alone.

    Raises:
        TfqError: one of them is by signature and the other is not, or as `matched`.
    """
    every = by_signature(graph, data)
    learned = matched(graph, statistics.signatures, "statistics") if statistics and statistics.signatures else None
    if every is None and learned is None:
        return None
    if learned is None and statistics is not None:
        raise TfqError(
            "the data is by signature and the statistics are not: calibrate on data by signature, or leave them out"
        )
    if every is None and data is not None:
        raise TfqError("the statistics are by signature and the data is not: give data by signature, or leave out data")
    return {key: ((every or {}).get(key), (learned or {}).get(key)) for key in entries(graph).values()}


def entries(graph: Graph) -> dict[int, str]:
    """Return the subgraphs that signatures start at, in file order, with the key of the first signature of each."""
    keys: dict[int, str] = {}
    for signature in sorted(graph.signatures, key=lambda signature: signature.subgraph):
        keys.setdefault(signature.subgraph, signature.key)
    return keys


def each(graph: Graph, given: Mapping[str, D], make: Callable[[Graph, D], T]) -> dict[str, T]:
    """Make something of every signature, as a float graph of its own, and of what was given for it.

    Raises:
        TfqError: as `make` does, with the key of the signature.
    """
    made: dict[str, T] = {}
    for subgraph, key in entries(graph).items():
        with located(key):
            made[key] = make(entry(graph, subgraph), given[key])
    return made


@contextmanager
def located(key: str) -> Iterator[None]:
    """Say in errors which signature is meant."""
    try:
        yield
    except TfqError as error:
        raise TfqError(f"signature {key!r}: {error}") from error
