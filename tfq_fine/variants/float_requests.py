"""Requests that keep the makers of activations in float, so that an activation is rounded once, where it is read."""

from collections.abc import Collection, Iterable

from tfq_fine.request import IntegerSpec, OpSpec
from tfq_fine.variants.variant import RequestedSpecs, Variant


def in_float(variant: Variant, makers: Iterable[Collection[int]], feeders: bool = True) -> RequestedSpecs:
    """Return the requests with the makers of activations in float.

    Args:
        variant: the way to quantize the model.
        makers: the operators that make each activation.
        feeders: whether integer matrices before them become dynamic: their integer kernels would round the results.
    """
    main, requested = variant.graph.main, dict(variant.requested)
    producers = main.producers()
    every = {o for ops in makers for o in ops}
    before = {producers.get(t) for o in every for t in main.ops[o].inputs} if feeders else set()
    matrices = {o for o in before if o is not None and main.ops[o].code == "FULLY_CONNECTED"}
    return {**requested, **{(0, o): None for o in every}, **dynamic(requested, matrices)}


def dynamic(requested: RequestedSpecs, ops: Collection[int]) -> RequestedSpecs:
    """Return what integer operators of the main subgraph request where they round their input token by token."""
    specs = {o: requested.get((0, o)) for o in ops}
    return {(0, o): OpSpec("dynamic", spec.weights) for o, spec in specs.items() if isinstance(spec, IntegerSpec)}
