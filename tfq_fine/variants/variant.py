"""A variant: one way to quantize a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tfq_converters.graph import Graph
from tfq_converters.quantized import OpKey
from tfq_fine.placement import How
from tfq_fine.request import OpSpec

RequestedSpecs = Mapping[OpKey, OpSpec | None]


@dataclass(frozen=True)
class Variant:
    """One way to quantize a model."""

    graph: Graph
    requested: RequestedSpecs
    bounded_masks: bool = True
    corrected: frozenset[OpKey] = frozenset()  # the operators whose biases are corrected
    islands: Mapping[int, str] = field(default_factory=dict)  # operators of the main subgraph kept in float -> why
    how: Mapping[int, How] = field(default_factory=dict)  # operator of those -> how it holds its weights
    fitted: bool = False  # weights are fitted to inputs where the plan says so; else stand-ins of those algorithms
