"""Transforms that a user gives as objects: a row, or one function from float graph to float graph."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from tfq_converters.errors import TfqError
from tfq_converters.graph import Graph
from tfq_fine.request import OwnName
from tfq_fine.variants.transform import Proposal, Transform
from tfq_fine.variants.transform_table import TRANSFORMS
from tfq_fine.variants.trial import Trial
from tfq_fine.variants.variant import Variant


def row_of_transform(name: str) -> Transform | None:
    """Return the row of a name, or that of an object of the user; None where nothing is called so."""
    if not isinstance(name, OwnName):
        return TRANSFORMS.get(name)
    if isinstance(name.given, Transform):
        return name.given
    function = name.given
    return Transform((function.__doc__ or str(name)).partition("\n")[0], partial(_proposed, function), rewrites=True)


def known_transform(name: str) -> Transform:
    """Return the row of a name that was checked (`chosen_transforms`)."""
    row = row_of_transform(name)
    assert row is not None, "names are checked before any work"
    return row


def _proposed(function: Callable[[Graph], Graph], variant: Variant, trial: Trial) -> Proposal:
    """Return what a function makes of the graph of a variant.

    Raises:
        TfqError: it returns no graph, or one of other operators, which the specs of the variant are not about.
    """
    name, after = function.__name__, function(variant.graph)
    if not isinstance(after, Graph):
        raise TfqError(f"transform {name!r} returned a {type(after).__name__}; expected a Graph")
    if after is variant.graph:
        return Proposal("nothing to change")
    before, codes = ([(key, op.code) for key, op in graph.ops()] for graph in (variant.graph, after))
    if before != codes:
        raise TfqError(
            f"transform {name!r} returned a graph of other operators; one that adds or removes some is a "
            "tfq_fine.variants.transform.Transform, which says what is requested of them"
        )
    return Proposal(f"{name} changes {_changed(variant.graph, after)} constants", (replace(variant, graph=after),))


def _changed(before: Graph, after: Graph) -> int:
    pairs = zip(before.main.tensors, after.main.tensors, strict=False)
    return sum(one.data is not other.data for one, other in pairs)
