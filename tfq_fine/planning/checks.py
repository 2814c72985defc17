"""The checks of names and options that need no data, and the algorithms that lack what they read."""

from collections.abc import Collection, Iterable
from dataclasses import replace

from tfq_converters.errors import require
from tfq_converters.graph import Op, Subgraph
from tfq_converters.operators import weight_axes
from tfq_converters.quantized import OpKey
from tfq_fine.algorithms import algorithm_of, algorithm_problems, has_state, has_statistics, with_stand_in
from tfq_fine.calibration import observer_problems
from tfq_fine.request import IntegerSpec, OpSpec, WeightedSpec


def spec_problems(specs: Iterable[OpSpec | None]) -> list[str]:
    """List what is wrong with the algorithms and observers of specs, and with their options.

    Raises:
        TfqError: an algorithm learns roundings, and TensorFlow is not installed.
    """
    problems: dict[str, None] = {}
    for spec in dict.fromkeys(specs):
        if isinstance(spec, WeightedSpec):
            problems |= dict.fromkeys(algorithm_problems(spec.weights))
            if not problems and algorithm_of(spec.weights).learns:
                require("tensorflow")
        if isinstance(spec, IntegerSpec):
            problems |= dict.fromkeys(observer_problems(spec.activations))
    return list(problems)


def with_statistics(
    spec: WeightedSpec, key: OpKey, op: Op, subgraph: Subgraph, unknown: set[int], loops: Collection[OpKey] = ()
) -> tuple[WeightedSpec, str]:
    """Return (the spec with an algorithm that has what it reads, why that is not the one that was asked)."""
    if not weight_axes(op, subgraph):
        return spec, ""
    row = algorithm_of(spec.weights)
    if not row.reads or (key[0] == 0 and has_statistics(op, subgraph) and unknown.isdisjoint(op.inputs)):
        return spec, ""
    has_own = key[0] == 0 and has_state(op, subgraph) and unknown.isdisjoint(op.inputs)
    if row.by_moments and (key in loops or has_own):
        return spec, ""
    why = (
        f"algorithm {spec.weights.algorithm!r} reads its inputs, which are not observed; {row.stand_in} is used instead"
    )
    return replace(spec, weights=with_stand_in(spec.weights)), why
